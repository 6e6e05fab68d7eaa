// Package controlplane runs a real Kubernetes control plane: etcd and kube-apiserver, with kube-controller-manager and
// kube-scheduler when asked for.
//
// It owns their processes, data, ports and certificates, all below one folder, and the ways in: kubeconfig files and
// client configurations for any user and groups, and server-side apply of manifests.
//
// It knows nothing of nodes, images or the product.
//
// Invariants:
//
//  1. A control plane keeps its address, certificates and data for life: stopped, killed and started again, clients find
//     the same server.
//  2. Servers listen only on the addresses given; etcd only on loopback.
//  3. [Start] returns when /readyz says yes, or with an error that quotes the log of what failed; then nothing runs.
//
// The data does not survive a power cut (etcd runs without fsync): a control plane lives as long as its process.
// Methods may be called by several goroutines at once.
package controlplane
