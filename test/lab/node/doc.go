// Package node makes the nodes of the lab's cluster.
//
// It owns what a test does with a node, whatever it runs on: its identity, its folder, programs that run on it, power off
// and on, a heartbeat that can pause. What it runs on is a [Host]: a machine of its own with containerd and kubelet
// (package machine), or nothing but a Node object that the lab keeps Ready, for agents that store images in a folder
// (the layout runtime).
//
// It never touches the product's objects and never starts the product by itself.
//
// Invariants:
//
//  1. A node that is off runs nothing; its folder is as its programs left it.
//  2. A node comes back under the same name with the same folder, credentials and labels.
//  3. The Node object of a layout node is Ready while the node is on and its heartbeat is not paused. If a controller
//     manager runs, silence is all that the lab does to change that; if none runs, the lab also says NotReady in its place.
package node
