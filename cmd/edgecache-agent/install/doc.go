// Package install puts the agent onto a node as something that starts with it: a systemd
// unit or a static pod, with its settings. It takes it off again.
//
// It owns what stands in those files and where. It starts nothing itself, but through
// systemctl, and only on the machine that it runs on. What the agent remembers and holds it
// never removes.
//
// Invariants:
//
//  1. Files are replaced in one step and written only where they differ: doing it twice is
//     doing it once.
//  2. Settings that somebody edited are left as they are unless that is forced. A checksum in
//     the file tells.
//  3. All paths are below a root, so that images of machines are made in the same way.
//
// Failure model: the first file that cannot be written ends it with its path; what was
// written before stays, and the next run goes on.
package install
