// Package schedulerplugin is ImageCacheLocality, a kube-scheduler plugin that places pods where their images are ready
// soonest.
//
// It owns what kube-scheduler calls: which images a pod needs, the estimate per node put to use as score, as filter and
// as reservation. What nodes hold is inventory's, what an estimate is worth is scoring's, how it is set up is args's.
//
// Invariants:
//
//  1. It makes no request in a scheduling cycle, waits for nothing and reads no clock: what it does not know is neutral.
//  2. Raw scores are ready times in milliseconds, of one node alone. Pods with the same signature get the same ones.
//  3. Nothing a cycle reserves outlives the pod: it is forgotten when the pod runs, is deleted or unreserved, when the
//     node's agent tells that the images are there, or when it expires.
//  4. Pods of DaemonSets are never refused, and of no pod are nodes refused whose agent is silent.
//
// Failure model: without custom resources, without rights, or with an agent that is dead, the plugin skips its part. It
// never fails a pod.
package schedulerplugin
