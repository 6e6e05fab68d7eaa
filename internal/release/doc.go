// Command release builds what a release of edgecache consists of.
//
// It owns the container images: the static binaries of cmd/, built for each platform
// and packed as multi-arch OCI images without a container runtime. It never tags the
// repository, never signs and never decides on a version: it takes git's.
//
// Invariants:
//
//  1. The same source, version, time and Go toolchain give the same digests, on any
//     machine and in any folder: times come from SOURCE_DATE_EPOCH or the commit, file
//     order and modes are fixed, paths are trimmed.
//  2. An image folder under --out is complete: it is written beside and renamed. A
//     folder that is no OCI layout is never replaced.
//  3. A version is stamped only as vX.Y.Z[-suffix]: the Kubernetes libraries panic at
//     start on anything else.
//
// Failure model: the first failure ends the run and is the exit status; images finished
// before it stay.
package main
