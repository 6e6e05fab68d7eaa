// Package offlinestart judges whether pods will start from the images that a node holds while
// no registry answers: an image that is there is not all that it takes.
//
// It owns the words of the condition OfflineStartAtRisk and what of the kubelet's
// configuration they depend on. It decides from what it is given, and does nothing about it.
//
// What is not known is no risk: the condition is Unknown then, and True only for what was
// seen. A setting of a workload (imagePullPolicy: Always) is not the node's, and not judged.
package offlinestart
