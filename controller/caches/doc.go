// Package caches looks after each ImageCache: it has its images resolved, tells the nodes
// concerned, and sums up in its status how far the fleet is.
//
// It owns the status and the finalizer of ImageCache objects and nothing else.
//
// Invariants:
//
//  1. The status is worked out anew from the nodes' objects each time and written only
//     when it differs; its size has a fixed ceiling whatever the fleet's size.
//  2. An offline node is not failed: unreachable nodes and nodes without an agent are
//     counted as such, keep their last known state, and do not hold back Ready.
//  3. Caches are judged image by image on their own lists: editing one cache never makes
//     another one flap.
//  4. The finalizer is there only under deletionPolicy Remove, and waits for the removals
//     to stand in the nodes' specs, not for the nodes.
//
// Failure model: nothing is kept in memory that the API server does not have, but when
// the next refresh is due: after a restart it is due within one interval, at random.
package caches
