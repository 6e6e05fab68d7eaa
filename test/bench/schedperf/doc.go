// Package schedperf is Kubernetes' own scheduler_perf with ImageCacheLocality in it: what the plugin costs a scheduler of
// 5,000 nodes. It is a module of its own, so that nobody else compiles Kubernetes' test tree. `go run ./test/bench
// scheduler` runs it, with and without the plugin in turn, and prints the table.
//
// What counts is CPU time, not throughput: on a machine that does other things it is the same as on one that does not.
package schedperf
