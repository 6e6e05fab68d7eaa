// Package sandbox has each node keep the image that its runtime makes pod sandboxes of,
// without anybody's asking: when it is lost while the link is down no pod starts.
//
// It owns which of the reported images count, and looks them up as one more owner of the
// resolution table, without pull secrets. It writes nothing: controller/nodes puts the wish
// into the nodes' specs.
//
// Invariants:
//
//  1. What agents report is not believed further than it must be: at most 8 images count,
//     those that most nodes report, and further ones come slowly. An image goes only to the
//     nodes that report it.
//  2. An image that its registry never gave is no wish: nothing waits for it, and nobody is
//     told. One that it gave stays as it was found.
//  3. What a node no longer reports is let go there, never removed: it was the runtime's.
//
// Failure model: all that is remembered stands in the nodes' specs. After a restart what
// was found is taken from there, without asking a registry again.
package sandbox
