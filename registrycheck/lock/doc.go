// Package lock keeps what images were when they were checked: which digest a reference
// stood for, its platforms, their layers and sizes.
//
// It owns the lock file (File), its reading and writing, what a later check differs in
// (Verify), and what nodes that have the images of one lock must download for those of a
// check (Changes). It never asks a registry.
//
// Invariants:
//
//  1. The same images give the same file, byte for byte, in whichever order they were
//     checked.
//  2. A file is replaced whole or not at all.
//  3. What is read was validated: references and digests are such, sizes are not below 0.
//
// Failure model: an image that was not found pullable cannot be locked; New names it.
package lock
