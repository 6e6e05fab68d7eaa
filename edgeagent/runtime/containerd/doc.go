// Package containerd is the driver for nodes whose kubelet runs on containerd, over
// containerd's own API: the agent fetches into the content store, unpacks into the
// kubelet's snapshotter and names images so that CRI sees them as its own.
//
// It owns, in one namespace (k8s.io): leases with the label edgecache.dev/pull, and on image
// records the label edgecache.dev/managed. It changes only records that it was asked to
// change, and never content, snapshots or leases of others.
//
// Invariants:
//
//  1. An image record is made or moved only after content and snapshots are complete and
//     synced to disk (diff.WithSyncFs): containerd itself does not sync what it unpacks, and
//     a power cut would leave files of zeros in an image that counts as present. What others
//     unpacked is synced before it is named, by containerd: no access to its disk is needed.
//  2. Until the record is there, a lease holds all that was fetched, for a day after the
//     last attempt. It goes with the last name of the digest, too.
//  3. The records that CRI makes under the image's ID ("sha256:…") are not names: they go
//     with the last name of the image, since nobody else would remove them.
//
// An image counts as complete when its documents are there and each of its layers is
// unpacked, by a snapshotter that has all of it: a snapshot labelled remote has promises.
//
// Layers whose snapshots exist are not fetched, so a node with discard_unpacked_layers
// pays for a shared base once, like containerd's own pulls.
//
// Failure model: calls fail while containerd is away and work again when it is back. A
// layer whose stored bytes turn out damaged when it is unpacked is deleted, and fetched
// again by the next Ensure. What somebody else removes shows in the inventory and, as an
// event of containerd, as a hint.
package containerd
