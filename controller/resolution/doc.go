// Package resolution turns tags into digests, once for the whole fleet.
//
// It owns the table of what each reference stands for, and who was found to have the
// right to it. It asks registries through a Resolver and never talks to nodes.
//
// Invariants:
//
//  1. A reference stands for one digest in the whole fleet, also when ImageCaches of
//     several namespaces name it. It is looked up again only when it is asked for: on a
//     spec change, a refresh token, or a refresh under pull policy Always. What was found
//     without any ImageCache's asking freezes no tag: the first that names it has the tag
//     looked up, so that nobody else chooses when it is frozen.
//  2. A registry that does not answer, or answers no, changes nothing of what was found
//     before: the digest stays, and who was admitted stays admitted.
//  3. A namespace is admitted to an image when its own credentials were found to read it.
//
// The table is memory only. What it needs to know again after a restart stands in the
// status of the ImageCaches: seeding from there makes a restart look nothing up again.
package resolution
