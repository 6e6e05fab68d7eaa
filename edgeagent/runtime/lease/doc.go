// Package lease keeps what a pull has brought into containerd from containerd's garbage
// collector until the image has a name: over lost connections, cancelled calls, and
// restarts of the agent, of containerd and of the node.
//
// It owns the leases with the label edgecache.dev/pull, whose value is the digest that is
// pulled. It never looks at content and never touches leases of others.
//
// Leases end by themselves (label containerd.io/gc.expire), so that what an agent leaves
// behind is not kept for ever. A lease cannot be changed once it is made; it is renewed by
// making another one, copying what the old one holds, and deleting the old one. A writer
// of the content store adds what it commits to the lease under which it was opened, so:
//
//  1. Everything done under a lease is bracketed by Use, which gives a lease that lasts
//     for two thirds of the time to live at least.
//  2. One use must not last longer than that. A pull opens its writers anew in time.
//  3. An old lease is deleted only when no use of it is left, after copying once more what
//     was committed meanwhile.
//
// A clock that is wrong costs nothing that was fetched:
// while it has not been set, leases do not expire; one made by a clock that was ahead is
// kept for as long as it says.
//
// Failure model: a crash in the middle of renewing leaves two leases for one digest; Take
// finds both, copies and deletes the older. A lease that the collector removed, because
// the clock jumped or the node was off for longer than the time to live, is made anew: what
// it held may be gone, and is fetched again then.
package lease
