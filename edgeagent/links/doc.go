// Package links watches the links of one node while the agent works: how each registry and
// the API server are reached, and how fast bytes come.
//
// It owns what package link of offline judges from: it hears of every connection that the
// agent makes, and of attempts that gave up where a runtime makes them. It remembers the
// history in the store, and asks registries that are down whether they are back. It never
// decides what to pull.
//
// Invariants:
//
//  1. A registry is asked only while it is down and something waits for it, at most once
//     per ProbeInterval, more seldom the longer it lasts; never with an interval of 0. What
//     is asked is its /v2/, by the way that pulls take: no image's bytes.
//  2. A change of the node's own routes or links has those asked at once that would be
//     asked later. Nothing listens for it while nobody waits.
//  3. History is written when a state changed, at most once in two minutes and once more at
//     the end. Nothing else is written.
//
// Failure model: a store that cannot be read or written costs the history, which begins
// anew. A link that was down before a restart counts as down until it was tried, which is
// at once.
package links
