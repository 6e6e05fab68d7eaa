// Package integration tests the parts of edgecache together against a real kube-apiserver,
// etcd and registry, without container runtimes: nodes are on the layout driver.
package integration
