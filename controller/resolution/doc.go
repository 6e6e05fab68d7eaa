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
//  4. An ImageCache is let through to a digest when its nodes can pull it, as far as its
//     precheck asks: all platforms of the nodes that it selects were found Pullable, or
//     Inconclusive. Only a reference by digest passes without an answer of its registry.
//     A tag moves to a digest only if one of those who asked is let through to it.
//  5. Who was let through to a digest stays so when nodes of other platforms come: nodes
//     have it. Others are judged by what was found for theirs.
//  6. A digest is checked once for each platform, by whoever asks first. Where nothing
//     moved a refresh costs one HEAD.
//
// The table is memory only. What it needs to know again after a restart stands in the
// status of the ImageCaches: seeding from there makes a restart look nothing up again. A
// status that says Pullable counts for the nodes there are at the restart. One that says
// NotPullable of an image with a digest was of a newer one: its tag is looked up again.
package resolution
