// Package scenario plays what happens to a fleet: the real controller and many real agents
// on a real API server and etcd, with played container runtimes, through the scenarios of a
// table.
//
// It owns the world (lab, Nodes, controller, agents), the table, and the figures that come
// out. It never passes or fails by how much something cost; a scenario fails when its end state
// is not the one that was wished: every node holds exactly the wished digests, nothing was
// pulled twice, and the ImageCache says so. Two hold to more: "refresh" fails when anything but
// Leases was written at all, "restart" when the kills of the controller left anything else
// than a rollout without them, or more nodes worked at a time than the rollout lets in.
//
// What is counted: requests that write objects of edgecache.dev, and events, by any program
// but the API server; Leases are not, nor what the simulator does to Nodes. The user's own
// writes of the ImageCache are among them.
package scenario
