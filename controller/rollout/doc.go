// Package rollout decides which nodes may take part in a change, for ImageCaches that
// spread changes over the fleet (spec.rollout).
//
// It owns the gates: which nodes were let in to which digests. It writes no object; nothing
// in it has to survive. A node whose spec asks for the new digests was let in, which is read
// off the specs; what was let in and not yet written is let in anew after a restart.
//
// Invariants: an ImageCache with a rollout changes no node's digest that it did not let in.
// Nodes that cannot be reached hold no place, and are let in when they are back. One node of
// a site goes first; the others follow when it succeeded or failed. When the digests change
// in the middle, nodes still at work on the old ones hold their places.
//
// Concurrency: Gates may be used from any goroutine; Decide is pure.
package rollout
