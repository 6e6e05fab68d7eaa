// Package scene sets up what a scheduler sees of a fleet: Nodes, what their agents report, the
// agents' Leases and what images consist of, written straight to a lab's API server.
//
// Nothing runs on such nodes. It owns the objects that it makes, and never makes Pods run: a
// pod that was placed stays Pending. No controller and no agent may run beside it, as they
// write the same objects. A failed write is returned, and leaves what was written before.
package scene
