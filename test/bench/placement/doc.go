// Package placement compares schedulers by how soon pods are ready: a real API server and the real scheduler place pods
// on made-up nodes, and a model plays what happens on the nodes afterwards.
//
// It owns the scenarios, the model of pulls, and the figures. Time is the model's own: a pod is created when its turn
// comes, the model waits until the scheduler has bound it, and then goes on to the next thing that happens. So an hour
// takes seconds, and the speed of this machine decides nothing.
//
// What nodes can do (links, unpacking) is known to the model alone. The scheduler is told through the API, as by kubelets
// and agents: later, and not quite right.
package placement
