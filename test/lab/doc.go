// Command lab runs a Kubernetes cluster for trying out and testing edgecache, on one Linux machine.
//
// It owns the command line: "up" for people, "build" and "probe" for scripts, and two hidden commands for the lab itself,
// "capsule" (number one of a node's namespaces) and "janitor" (clears a killed lab away). What a lab is, is package
// cluster's; Go tests use that directly.
//
// The packages, from the top:
//
//	cluster       a lab as a whole; ForTest for tests
//	controlplane  etcd, kube-apiserver, kube-controller-manager, kube-scheduler; certificates, kubeconfigs, manifests
//	registry      distribution behind a proxy that counts and misbehaves
//	testimage     images made out of nothing
//	node          what a test does with a node; layout nodes
//	machine       containerd nodes: containerd and kubelet in a capsule
//	network       the machines' network and its faults
//	capsule       namespaces that end with the lab
//	cgroup        control groups, which the kernel does not remove by itself
//	labdir        a lab's folder and identity; dead labs
//	process       programs that end with the lab
//	port          ports that stay reserved
//	toolchain     building what is run
//	leftover      looking for what is left, for the tests of the promise that nothing is
//
// Exit status: 0 when the lab was up and was ended by a signal, 1 otherwise.
package main
