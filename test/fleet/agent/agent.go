package agent

import (
	"context"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/intake"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/test/fleet/engine"
)

// version is what the agents say that they are.
const version = "v0.0.0-fleet"

// Agent is the agent of one node, running or not.
type Agent struct {
	node   string
	engine *engine.Engine
	memory *memory
	link   *link
	client *report.Client

	mu   sync.Mutex
	stop func() // guarded by mu; nil while not running
}

// Node gives the name of the agent's node.
func (a *Agent) Node() string { return a.node }

// Engine gives the node's container runtime.
func (a *Agent) Engine() *engine.Engine { return a.engine }

// Start runs the agent until Stop. What it remembered before is there again.
func (a *Agent) Start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logr.Discard()))
	reporter := report.NewReporter(a.client)
	loop := edgeagent.New(a.memory, a.engine, reporter, edgeagent.Options{Version: version, BootID: a.node, Disk: a.engine.Disk})
	var wg sync.WaitGroup
	wg.Go(func() { intake.Watch(ctx, a.client.Caches(), a.node, listeners{loop, reporter}) })
	wg.Go(func() { reporter.Run(ctx) })
	wg.Go(func() { report.Heartbeat(ctx, a.client) })
	wg.Go(func() { _ = loop.Run(ctx) }) // fails only if the memory cannot be read, and this one can
	a.stop = func() { cancel(); wg.Wait() }
}

// Stop ends the agent's process, so to speak.
func (a *Agent) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
}

// Cut takes the API server out of the agent's reach; Join brings it back.
func (a *Agent) Cut() { a.link.sever() }

// Join ends a cut.
func (a *Agent) Join() { a.link.join() }

// listeners are told one after the other.
type listeners []intake.Listener

// Hear tells all.
func (all listeners) Hear(object *v1alpha1.NodeImageCache) {
	for _, l := range all {
		l.Hear(object)
	}
}
