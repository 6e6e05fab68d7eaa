// Package fetch is the one way by which image bytes enter a node: it reads them from a
// Source, checks them against their digests and writes them into a containerd content
// store, where a runtime driver unpacks and names them.
//
// It owns how bytes travel: hosts and mirrors, credentials, byte ranges, retries, stalls,
// bandwidth, progress, and the choice of the node's platform out of an index. It never
// names, unpacks, pins or removes anything, and never decides which image is wanted. It also
// asks, in the same way, what a tag stands for.
//
// Invariants:
//
//  1. A blob becomes visible in the store only under the digest that was asked for, with
//     the size that the manifest gives. The root digest comes from the caller.
//  2. A byte that the store holds is not asked for again: an ingest is continued at its
//     own offset by a Range request, across lost connections, cancelled calls, restarts
//     of the agent and of the runtime. Two exceptions: a registry that ignores Range
//     (the part that is there is read and dropped), and bytes that turned out wrong.
//  3. Bytes are written as they are read, at most 32 KiB at a time, so a killed agent
//     loses no more than that.
//  4. After a digest mismatch the ingest is aborted: nothing is built on wrong bytes.
//  5. No error text contains a credential, a token, a query string or a URL.
//  6. Documents are bounded: manifests, indexes and configs by 4 MiB, indexes by 1,000
//     entries, manifests by 256 layers; a blob is read up to its size and no further.
//  7. A login is sent only to the host that it was given for and the token server that this
//     host names, and only after it was asked for. No type prints one.
//
// Ingests are named as containerd itself names them (remotes.MakeRefKey, such as
// "layer-sha256:…"). So when a pod needs an image that the agent has half fetched, the
// pull of the kubelet goes on where the agent stands, and the other way round: one of the
// two writes, the other waits and finds the blob there. The price is that a bandwidth limit
// of the agent also slows such a pull, for the layers that the agent is writing just then.
//
// Failure model: every failure of a source is an *Error that says in one word (a reason of
// api/v1alpha1) what went wrong; Transient tells whether waiting can help. Lost connections
// and server errors are retried here, for as long as bytes keep coming; everything else is
// for the caller to retry, later. What was fetched stays in the store either way, for as
// long as the caller's lease on it lasts.
//
// A Puller and a Registry may be used by several goroutines at once. Two pulls that need
// the same blob fetch it once.
package fetch
