// Package scoring says how long a pod's images take to be ready on a node, and what that is worth.
//
// It owns the estimate and the scale. It is pure: no clock, no state, no I/O. Estimates are absolute and of one node:
// they do not change because of what other nodes offer, which is what lets kube-scheduler use them again for the next pod
// of the same kind.
//
// Invariants:
//
//  1. Less to bring never takes longer, a faster link never does.
//  2. A score is between 0 and 100, and falls as the ready time grows.
//  3. No function allocates.
package scoring
