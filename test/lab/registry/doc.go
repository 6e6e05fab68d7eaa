// Package registry runs a real image registry behind a door that counts and misbehaves.
//
// It owns a distribution process, which listens on a unix socket and stores into a folder, and the proxy in front of it
// through which all clients come. The proxy records every request with the bytes that went to the client ([Log]), and on
// demand is slow, late, cuts connections, refuses them, answers errors, ignores ranges ([Faults]) or wants credentials
// ([Auth]). [Registry.Direct] is the back door: pushing through it is neither counted nor disturbed.
//
// It never changes what the registry answers unless a fault or a credential rule says so.
//
// Invariants:
//
//  1. The address stays the same for life; while the registry is stopped or refuses, clients are refused at once.
//  2. Request.Bytes are body bytes that the kernel took for the client's connection. What the client had not read when it
//     was killed is among them: at most its receive buffer and the 64 KiB send buffer here, next to nothing where a rate
//     limit makes the registry the slow side.
//  3. Faults may be changed at any time and hold at once, for connections that are already open too.
//
// The registry ends with its process; a registry that dies answers 502 through the proxy and its log tells why.
package registry
