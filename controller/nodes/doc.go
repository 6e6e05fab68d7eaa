// Package nodes keeps one NodeImageCache per Linux node and writes into its spec what the
// node should hold.
//
// It owns NodeImageCache objects and their spec; the status belongs to the node's agent.
//
// Invariants:
//
//  1. A spec is written only when it differs from what stands there: with nothing to do,
//     nobody writes. A change of the wish costs a node at most one write; a removal one
//     more, when the agent has reported it done.
//  2. An image leaves a spec only to stand in remove, because its last owner was deleted
//     with deletionPolicy Retain, or because the node's runtime no longer makes sandboxes of
//     it and nobody else asks for it. What stands in remove stays there until the
//     agent reports it gone or it is wanted again. What an edit no longer asks for stays
//     until all that its owner asks for on the node was found, passed its check and was let
//     in by the rollout.
//  3. A digest that was once written for a name is replaced by a newer one, never taken
//     away because a registry or the controller's memory lost it.
//  4. Of an image whose digest nodes have to find out nothing is removed before there is one.
//  5. An object belongs to one Node by UID. The object of a Node that was deleted and
//     made again under its name is replaced by an empty one.
//
// Failure model: all state is in the API server. A lost write is found again by comparing
// on the next event; a conflicting write is retried after the informer caught up.
package nodes
