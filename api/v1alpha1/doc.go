// Package v1alpha1 is the Kubernetes API of edgecache, group edgecache.dev.
//
// It owns three kinds and the words used in them (condition types, reasons, labels):
//
//   - ImageCache (namespaced): what a user asks for, and how far the fleet is.
//   - NodeImageCache (in the system namespace, one per node): what one node should hold,
//     written by the controller, and what it does hold, written by that node's agent.
//   - ImageContent (cluster-scoped, one per resolved digest): platforms and layers.
//
// It never holds behaviour: it imports nothing of edgecache and decides nothing.
//
// Compatibility: fields are only added. An agent ignores fields that it does not know,
// and a controller accepts the status of an agent that was away for months.
//
// +k8s:deepcopy-gen=package
// +groupName=edgecache.dev
// +groupGoName=Edgecache
package v1alpha1
