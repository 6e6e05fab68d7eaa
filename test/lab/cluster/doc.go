// Package cluster puts the lab together: a control plane, a registry and nodes, started by one call and gone after
// another.
//
// It owns the composition, the lab's folder and logs, and the promise that nothing stays. What the parts can do is theirs:
// [Cluster.ControlPlane], [Cluster.Registry] and the nodes are used directly.
//
// It never starts the product: a test installs the CRDs, starts controller and agents and says how.
//
// Invariants:
//
//  1. After [Cluster.Close] nothing is left: no process, mount, network device, control group, temporary file.
//  2. The same holds some moments after the lab's process was ended by a panic, ^C or SIGKILL, without its help: the kernel
//     ends the processes and with them mounts and devices, a janitor process removes files and control groups, and the
//     next lab's start what a killed janitor could not.
//  3. Any number of labs can run side by side: ports, networks, folders, control groups are each lab's own.
//  4. [Start] returns a cluster whose nodes are Ready, or an error, and then nothing runs.
//
// A part that dies unexpectedly is not brought back: its log tells why, and a failing test prints the logs' ends.
package cluster
