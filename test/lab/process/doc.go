// Package process runs the lab's programs: etcd, the API server, agents, kubelets.
//
// It owns what is the same for all of them: how they start, where their output goes, how they are stopped, killed and
// started again, and what is said when one of them ends. Where a program runs is the business of a [Starter]: [Host]
// starts children of this process, a node's capsule starts them in its own namespaces.
//
// It never finds a process by name: only what it started itself is ever signalled.
//
// Invariants:
//
//  1. No program outlives the process that started it, however that one ends. The kernel sees to it (PR_SET_PDEATHSIG
//     for a child of the host, the end of a PID namespace for a capsule).
//  2. A program does not get the terminal's ^C: it has a process group of its own, and its owner decides the order in
//     which things stop.
//  3. All output of a program goes to its log file, and every error about its end carries the tail of that file.
//
// A [Process] may be used by several goroutines at once.
package process
