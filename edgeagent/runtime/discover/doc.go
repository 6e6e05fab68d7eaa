// Package discover finds the container runtime of a node: the socket, the driver for it,
// and the folders that say how its registries are reached.
//
// It owns the table of where distributions have their sockets, and reads which one the
// kubelet uses. It only looks at files below a root: it connects to nothing, writes
// nothing and keeps nothing.
//
// Invariants: what the kubelet uses wins over what is there; two runtimes of which it is
// not known which one the kubelet uses are an error that names both, never a guess. That
// nothing is there (ErrNone) may change: runtimes start after agents, too.
package discover
