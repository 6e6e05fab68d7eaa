// Package toolchain builds what the lab runs.
//
// It owns <checkout>/.cache/bin: the lab's own Kubernetes, containerd, etcd and registry binaries, built from the
// nested module test/lab/binaries, and the product's binaries, built from the checkout itself.
//
// It never downloads a binary, never installs anything outside the checkout and never builds what it already has.
//
// Invariants:
//
//  1. A file in .cache/bin is complete: it is built under another name and renamed.
//  2. A lab binary with a matching stamp was built from the present go.mod, go.sum, flags, platform and Go version.
//  3. Two processes never build at once: the folder is locked with flock, which ends with its holder.
//
// A failed build leaves the previous binary and no stamp, so the next call tries again. A cancelled context ends the
// go command and is reported as the cause.
package toolchain
