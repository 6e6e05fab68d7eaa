// Package dialguard opens connections to hosts that strangers may have named, and refuses
// those that lead where no registry is: to this machine, to the link's own addresses, to
// the metadata service of a cloud, into the cluster.
//
// A registry tells its clients where to get a token and where a blob lies. One that is
// hostile, or was broken into, can so send a program that runs inside of a network to any
// address in it. What counts is the address that a name resolved to, at the moment of the
// connection: names can be pointed anywhere, at any time.
//
// It owns the rule and its check. It never decides who is trusted: a host that the user
// configured is reached wherever it is, and callers say which those are, for all
// connections (Options.Trusted) or for those of one request (Trust).
//
// Invariants:
//
//  1. Every address that is tried is checked, also when a name has several. IPv4 addresses
//     that are written as IPv6 ones count as what they are.
//  2. A trusted host is so with its port: another service on the same address is not.
//
// Through an HTTP proxy the proxy resolves names and connects: it is the proxy's address
// that is looked at here, and what may be reached is for the proxy to say.
//
// A Guard may be used by several goroutines at once.
package dialguard
