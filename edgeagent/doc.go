// Package edgeagent is the agent's loop: it holds the images of one node to the wish, with
// and without an API server.
//
// It owns the order of things: what was stored is worked on at once after a start; what is
// heard is stored before it is acted on; what was done is stored and then reported. It
// decides what to do in package plan, brings images in through a runtime driver, and
// reports through package report.
//
// Invariants:
//
//  1. The store is the memory, the runtime is the truth, the API server is news. No step
//     waits for a server.
//  2. Any step may be cut short by the end of the process: the next start finds out from
//     store and runtime what is left to do.
//  3. One goroutine owns all state; attempts to bring an image in run beside it and report
//     back. An attempt whose image is no longer wished is cancelled.
//  4. What is reported as observed was carried out as far as the report says: a generation
//     is reported when the runtime was looked at with it, and a removal as done when
//     neither the image nor an attempt at it is left.
//  5. A tag that is this node's to resolve is asked for and reported, and brought only when
//     the wish names a digest. What a registry does not answer changes nothing, and an
//     answer that is no news does not have the runtime looked at.
//  6. Sealed credentials pass through here closed: they are stored with the wish, and a
//     keyring opens them for who pulls. The key to seal to is in every status.
//  7. What happens to an image is recorded once, with the ledger entry that says so, whether
//     or not the API server is there; package report tells it as Events.
//  8. What has to wait for a link or a pull window takes no turn, and burns no attempt. What
//     was fetched of it stays.
//  9. An image comes in only where it fits beside the reserve, by what its registry says of
//     it, and what is to be unpacked is estimated. To make room images of the ledger go, in
//     the order of package evict, and a wished one only once the registry serves the other.
//     Below the reserve a pull stops; nothing wished goes for what others have filled.
//
// Failure model: a runtime that does not answer is asked again every few seconds, and the
// last known state stands, after a start the one that the object's status tells; an image
// that fails is tried again with backoff, sooner when waiting may help, later when somebody
// has to act; a store that cannot be written is said in the status and does not stop the
// work. It is written at most 2,000 times a day: what else changes waits for its turn.
package edgeagent
