// Package wish decides what a node should hold: all ImageCaches and one Node in, a sorted
// list of images out. It is pure and is used by the controller and by an agent without
// an API server.
//
// It owns the selection of nodes and the merging of policies where several caches or
// lists ask for one image. It never resolves a tag, never reads a clock, never writes.
//
// Invariants:
//
//  1. The order of caches and lists does not matter.
//  2. Adding a cache never takes an image away from a node, and never weakens its policy:
//     pin Always beats Never, the highest keepPrevious and the highest priority win.
//  3. Each image stands once in the result, under its canonical reference, with every
//     cache that asks for it as owner; the result is sorted by reference.
//  4. A Suspended cache holds exactly the images that the node's current spec has a digest
//     for on its behalf, whatever its own spec says now. A Purged or deleted cache asks for
//     nothing.
//  5. Which owners have nodes resolve an image is carried along; who wins is the caller's.
package wish
