// Package inventory knows what nodes hold, what is on its way to them and how they are linked, and answers what a pod's
// images would cost each of them.
//
// It owns the memory behind it: which nodes hold which digest and which name (a set of bits per digest and per name, not
// a list per node), which images a layer is part of, and what pods that were placed will have their nodes pull. It is fed
// from NodeImageCaches, ImageContents and the agents' Leases by reflectors that keep nothing else of the objects, and
// from the scheduler's own informer of Nodes. It never writes to the API and never asks a registry.
//
// Memory, for 5,000 nodes with 60 images each: about 15 KB a node; 1.3 KB for each digest and each name that any node
// holds; 100 bytes for each layer of each ImageContent. Nothing is kept of what neither a node nor an ImageContent has.
//
// Invariants:
//
//  1. Nothing here waits for the API server: what is not known yet is unknown.
//  2. A Demand answers without locks, clock or allocation; what it is compiled from stays as it was, except for what a
//     node says of itself (its links, what is on its way), which is always the newest.
//  3. A node is known by a number that no other node gets while it is known, and bits of a number belong to that node.
//
// Failure model: while objects cannot be read the last known state stands, and grows stale: nodes whose agents were not
// heard of within their Lease count as unknown, and when that is more than half of those that should be heard, Healthy
// says so. Custom resources that are not installed are looked for again every half minute.
package inventory
