// Package store is the agent's memory: one bbolt file with what the node should hold, its
// sandbox image among it, what the agent knows of each image, how its links were, what happened on the node and
// was not told yet, and whose file it is. With it the agent works at once after a start, with
// no API server and no registry. Beside it stand the wish once more, in two snapshots that
// are replaced in turn; the node's private key, node.key, for pull credentials rest sealed in
// the wish; and a reserve of disk space.
//
// It owns these files and their formats; it never decides what to do, never opens a
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
//     damaged. What a snapshot gives back is not a Known wish, so that nothing is given up
//     until the API server has spoken.
//  4. The key's file has mode 0600 and is found whole or not at all. It names its node, as
//     store and snapshots do: a cloned disk gives no node what is of another.
//  5. fsync is on. Nothing is written when nothing changed: an equal record is not
//     rewritten.
//  6. A record of the journal is stored with the change that it tells of. The newest 256 are
//     kept, and how many had to go.
//
// Failure model, of what Open finds:
//
//   - Damaged, cut short, empty, of another node, or unreadable (EIO): moved aside, the two
//     newest of them are kept, and made anew with the wish of the newest intact snapshot.
//   - Missing beside a snapshot: made anew with its wish.
//   - Of an earlier schema: migrated in one transaction, after a copy was put beside it.
//   - Of a newer schema, on a read-only file system or not to be opened for another reason:
//     the store is degraded. It gives what can be read, or the wish of a snapshot, and writes
//     say why they fail. The file stays as it is.
//   - Not to be judged, because the check hung, was killed or could not be started: degraded,
//     with the wish of a snapshot.
//   - Missing on a full disk: the reserve is given up for it; without one, degraded.
//   - Open in another process: waited for, a minute, and then an error that says so.
//
// And of what a write finds:
//
//   - A full disk: the reserve is given up and the write tried again; should it fail all the
//     same, nothing is damaged and a later one may do. The reserve is made again when there is
//     room.
//   - A write or flush that failed in another way: nobody knows what is on the disk. The file
//     is closed, and degraded until it was looked over and opened again.
//
// A degraded store tries its file again every five minutes, by whoever calls Mend, and then
// asks for all that is to be remembered.
//
// A Store is safe for concurrent use; bbolt has one writer at a time.
package store
