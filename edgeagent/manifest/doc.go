// Package manifest has an agent work from ImageCaches in files, with no API server at all:
// it reads a directory, works out what the node should hold, and takes the place of both
// the API server and the controller for the agent's loop, which is the same in either mode.
//
// It owns which ImageCaches are in force, and the spec that follows from them. It never
// talks to a registry or a runtime: tags are the agent's to look up, as with resolve: Node,
// and what it finds comes back in its status and is frozen in the spec.
//
// Invariants:
//
//  1. A file counts as a whole or not at all. One that cannot be read, does not parse or
//     breaks a rule leaves its last good version in force, also over a restart: what is in
//     force is in the store.
//  2. The directory is read when nothing in it changed between two looks, so that half a
//     file, or one that an editor is about to put back, does not count.
//  3. An ImageCache that is gone from the directory counts as deleted once no file has a
//     mistake: until then it may stand in one that was given another name. What its
//     deletionPolicy asks for is stored with the wish before the ImageCache is forgotten.
//  4. A tag has the digest that was found first, until a refresh finds another. A registry
//     that does not answer changes nothing.
//  5. While there is a file of which no good version is known, and the wish was never whole,
//     the wish is unknown, and nothing is given up.
//
// Failure model: a directory that cannot be read leaves all as it is; it is looked at again
// every few seconds. A store that cannot be written is tried again, and the work goes on.
// Troubles are told to the agent, whose status and log have them.
package manifest
