// Package cri is the driver for nodes of which only the CRI socket is known: CRI-O,
// cri-dockerd, or a containerd whose own API is not to be used. The runtime does all the
// work; the driver asks it, and says what it cannot do.
//
// It owns nothing but, on a socket that serves containerd's lease service as well, the
// leases with the label edgecache.dev/pull, and with CRI-O the file of pinned images.
//
// What follows from CRI:
//
//  1. The runtime pulls by tag, for a name by digest can stand beside a tag but not become
//     one. So the digest is compared after the pull, and a tag that has moved is an error
//     that names both digests (TagMoved). The node then holds what the registry has now.
//  2. Nothing can be limited or watched; there is no progress. Whether an image is
//     complete is the runtime's word: containerd goes on listing one whose content is gone.
//  3. RemoveImage removes an image with all its names, except on CRI-O. A removal that
//     would take other names along is refused (NameSharedError); on CRI-O that is the last
//     tag where the name by digest shall stay.
//  4. With leases (gRPC header containerd-lease) the half of a layer survives a failed pull.
//     Without, every attempt begins anew.
//  5. CRI-O pins what its configuration lists, so there the driver keeps a file of its own
//     in the folder of drop-ins, writes it only when the set of names changes, and sends
//     SIGHUP to the process behind the socket. The file also marks what is managed; it goes
//     when it has nothing to say. Elsewhere nothing can be pinned.
//
// Failure model: errors of runtimes are texts; the driver reads the reason out of them as
// well as that goes, and takes URLs and the credential out. Where it cannot tell it says
// RuntimeError, which is tried again.
package cri
