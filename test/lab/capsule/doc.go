// Package capsule shuts programs up in namespaces that end with the lab.
//
// It owns both sides of a capsule. Inside, a process is number one of a PID namespace, with mounts, network, hostname and
// control groups of its own ([Serve]); it starts and signals programs when asked to, reaps what they leave behind and tells when one has
// ended. Outside, a [Capsule] asks, over a socket that the two share. A Capsule is a process.Starter, so that programs in
// it are handled like any others.
//
// It knows nothing of nodes, containers or networks.
//
// Invariants:
//
//  1. When the outside ends, whatever way, the inside ends: the kernel kills it (PR_SET_PDEATHSIG) and closes its socket,
//     at whose end it exits. When number one ends, the kernel kills every process of the namespace, whatever its parents
//     and signal masks, and then drops mounts and network devices. Nothing in here needs to be tidied up.
//  2. Nothing mounted inside is seen outside.
//  3. The answer to a start comes before the news of that program's end.
//
// A capsule that dies is not brought back; its programs count as ended and its log tells why.
package capsule
