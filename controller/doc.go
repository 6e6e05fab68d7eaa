// Package controller turns ImageCaches into what each node should hold, and what the nodes
// report into the status of the ImageCaches.
//
// It puts the reconcilers together: which event concerns which key. The work is in the
// packages below, one per noun: caches, nodes, contents, resolution, sandbox, sites; fleet is the view
// that they share and keyloop the loop that drives them.
//
// Invariants:
//
//  1. Work is level-based: an event only names a key; what is to be done is found out from
//     the objects as they stand.
//  2. All reconcilers start after all informers have synced: an object that was not seen
//     yet is never taken for one that is not there.
//  3. Nothing is written while there is nothing to do.
//
// Failure model: one replica works at a time (leader election is its caller's), and it may
// die at any instruction. What it has not written is worked out again.
package controller
