// Package engine plays the container runtimes of a fleet: thousands of them in one process,
// which take time to pull, break off, resume and remember as real ones do, and hold no bytes.
//
// It owns the names and images of one node, and the count of what was pulled for them. What
// images there are and how large they are says the one [Source] of the fleet.
//
// Invariants:
//
//  1. An engine can do all that a driver can: resume, progress, names by digest, pins, untag.
//  2. A pull takes as long as the image's size and the node's link say; half of it stays.
//  3. Every pull that was completed is counted, so that a test can tell one that was for nothing.
package engine
