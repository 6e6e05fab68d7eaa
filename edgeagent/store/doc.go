// Package store is the agent's memory: one bbolt file with what the node should hold, its
// sandbox image among it, what the agent knows of each image, and whose file it is. With it the agent works at once
// after a start, with no API server and no registry. Beside it stands the node's private
// key, node.key, in a file of its own: pull credentials rest sealed in the wish.
//
// It owns both files and their formats; it never decides what to do, never opens a
// credential and never talks to a runtime or a server.
//
// Invariants:
//
//  1. The runtime is the truth about images and the API server about wishes: everything
//     here can be rebuilt from them, so a damaged file is moved aside, never mended, and
//     never stops the agent.
//  2. Every record carries a checksum over its bucket, key and value, because bbolt
//     checksums only its two meta pages. A record that fails its checksum is as damaged
//     as a file that does not open.
//  3. An identity record tells an empty file from a lost one: a file without it is
//     damaged. Open says whether the memory is new, so that its user deletes nothing
//     until it knows the wish again.
//  4. The key's file has mode 0600 and is found whole or not at all. It names its node: a
//     cloned disk gives no node the key of another.
//  5. fsync is on. Nothing is written when nothing changed: an equal record is not
//     rewritten.
//
// Failure model: a full disk fails a write and damages nothing; the write is tried again
// by the next change. A file that is locked by another process, of a newer schema or not
// to be opened, and one whose check was ended before it could tell, is an error that says so:
// none of these is damage, and the file stays.
//
// A Store is safe for concurrent use; bbolt has one writer at a time.
package store
