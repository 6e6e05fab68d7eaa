// Package machine runs a lab node that is nearly a machine of its own: real containerd and kubelet in a capsule.
//
// It owns the machine's configuration (containerd, CNI, kubelet), its folder and its power. Inside, programs find what
// they would on a real machine: an empty /run after each start, their own /var/lib and /var/log, containerd at
// /run/containerd/containerd.sock, one network device, another boot id after each start. The machine's [network.Link]
// makes its line fail.
//
// It never changes the host: kernel settings that a kubelet wants to change are shadowed, images come from the lab's
// registry, control groups lie below the lab's.
//
// Invariants:
//
//  1. Power off ends every process of the machine at once, as pulling the plug does. What was written is on disk, as the
//     host's kernel goes on: power cuts that lose unwritten data need more than this.
//  2. [Machine.PowerOn] returns when the control plane has heard from this start's kubelet that the node is Ready.
//  3. Each program can be killed and started again on its own; the others go on.
package machine
