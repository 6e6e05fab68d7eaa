// Package plan decides what the agent does next: the wish, the ledger and what the
// runtime holds in; what to bring, release and remove out. It is pure.
//
// It never reads a clock, a file or a socket, and never talks to a runtime; what it gives
// can be thrown away and worked out again at any time.
//
// Invariants:
//
//  1. A name that any wished image needs, as its tag, its digest or a kept earlier digest,
//     is never among the names to remove or to release. Nor is the sandbox image's.
//  2. While the wish is unknown nothing is released, and nothing removed but what the
//     present object names in remove.
//  3. An image that a container uses is not removed; it is reported as waiting. So is
//     every image while the use is not known.
//  4. A removal that was carried out once is not carried out again on an image that came
//     back for another reason, and not done while an attempt is at work on the name.
//  5. Carrying out what is given and asking again gives nothing more to do.
//  6. Of an image whose digest is not known yet nothing is brought, removed or released.
//  7. A node that finds a digest in the wish of a tag and has said nothing of it, because it
//     is new or lost its store, does not answer the refresh token that stands there: its
//     answer would move the site, and nobody asked it to. It answers the next one.
package plan
