// Package startup sees how long pods really took to have their images.
//
// It owns the pods that it was told to expect until their containers have started, at most 10,000, and measures by what
// the kubelet writes into their status: from the sandbox's being ready to the start of the last container, in whole
// seconds. Pods with init containers or image volumes are not measured: programs run, or images come, outside of that
// time. It asks nobody: pods come from the scheduler's informer. A pod that never starts is forgotten when it is deleted.
package startup
