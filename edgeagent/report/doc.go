// Package report tells the API server what a node holds: the status of its NodeImageCache,
// the Lease that shows that the agent is alive, and Events of what happened on the node.
//
// It owns the agent's writes to the API server. It decides nothing about images.
//
// Invariants:
//
//  1. A status is written only when it differs from the one written last, or the API
//     server shows another one for longer than a write takes to come back. At once: that
//     work ends, that the node begins to fail, removals, troubles; within seconds what tags
//     stand for. Steps on the way to a wish are gathered: the first for 15 s, the next for 1,
//     4 and then 15 minutes. Progress, and what goes on failing, waits as long, at least a
//     minute, progress 5 % of the image apart.
//  2. A status is written with the UID of the object it is about: an object that was
//     replaced meanwhile is not given a status of the old one.
//  3. The object stays within its budget whatever the images and errors: what gives way
//     are messages first, then other images.
//  4. Each record of the journal becomes one Event, with the time at which it happened, whether
//     the API server was there then or not. Its name follows from the object and the record, so
//     that telling that is cut short and begun anew tells nothing twice.
//
// Failure model: while the API server does not answer only the newest status is kept,
// tried again with backoff, and written when it answers.
package report
