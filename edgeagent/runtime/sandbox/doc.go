// Package sandbox finds out which image a container runtime makes pod sandboxes of.
//
// CRI has no field for it. What there is:
//
//  1. The runtime's configuration, in the verbose status: CRI-O and containerd 1.7 name the
//     image there; containerd 2.0 to 2.4 do not, nor does cri-dockerd.
//  2. The sandboxes themselves: the newest was made of the image that is used now. On a node
//     where no pod ran yet there is none.
//
// Invariants:
//
//  1. Not known is no news: an answer that fails to come, or a node without pods, leaves
//     standing what was known.
//  2. An older sandbox says nothing against a newer one that is gone.
//  3. An image without a name, known by its ID only, is none: nobody could pull it.
package sandbox
