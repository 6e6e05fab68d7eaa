// Package layout is the driver for nodes without a container runtime that one could ask:
// it keeps images in an OCI image layout (oci-layout, index.json, blobs/sha256), which
// embedded systems, tests and tools read directly. It needs no root.
//
// It owns one directory: index.json and what is below blobs/ and ingest/. Other tools may
// add to index.json and blobs/; what it finds there it keeps. Only one driver may use a
// directory at a time.
//
// Invariants:
//
//  1. index.json is replaced as a whole, by rename, after it was synced: a power cut
//     leaves the old or the new one.
//  2. An entry that this driver writes points at an image of which every blob is there.
//  3. A blob is removed with the last name that needs it, and never while an Ensure is at
//     work that needs it. Blobs and ingests that no name was ever given to go when they
//     are old: they may be the half of an image that is still wanted.
//
// Names are the annotation org.opencontainers.image.ref.name (or io.containerd.image.name,
// as containerd exports it) when it is a canonical reference; the annotations
// edgecache.dev/managed and edgecache.dev/pinned are "true" or absent.
//
// Failure model: an index.json that cannot be read is moved aside and an empty one takes
// its place; blobs stay, so that bringing the names back costs no bytes. A blob or entry
// that is deleted by hand shows in the inventory as incomplete or missing, and within the
// polling interval as a hint.
package layout
