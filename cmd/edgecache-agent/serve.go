package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"edgecache.dev/cmd/internal/program"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/metrics"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/pause"
)

// serveRetry is how often an address is tried that somebody else has.
const serveRetry = time.Minute

// serve tells how the agent stands, on its socket and on its address, until stop is
// called. What cannot be served is said and does not stop the agent: nobody is there to
// free a port.
func serve(ctx context.Context, c *config, agent stance, contact *local.Contact, memory *store.Store) (stop func()) {
	tell := func() local.Status {
		s := agent.Status()
		s.Node, s.Store = c.NodeName, cost(c, memory)
		if c.Manifest == "" {
			s.APIServer = contact.Status()
		}
		return s
	}
	legacyregistry.CustomMustRegister(metrics.New(tell))
	endpoints := program.Endpoints{Address: c.ServeAddress, Profiling: c.Profiling, Health: agent.Health, Ready: agent.Ready}
	all := endpoints.Handler()
	all.Handle("GET /status", local.Handler(tell))
	closeSocket, err := local.Serve(ctx, c.StateDir, all)
	if err != nil {
		klog.FromContext(ctx).Error(err, "edgecache-agent status will not be answered")
		closeSocket = func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); listen(ctx, &endpoints) }()
	return func() { cancel(); <-done; closeSocket() }
}

// cost tells what the agent's memory cost so far.
func cost(c *config, memory *store.Store) *local.Store {
	stats := memory.Stats()
	told := &local.Store{Commits: stats.Commits, BytesWritten: stats.Bytes}
	if info, err := os.Stat(filepath.Join(c.StateDir, store.FileName)); err == nil {
		told.SizeBytes = info.Size()
	}
	return told
}

// listen serves the endpoints until the context ends, as soon as the address is free.
func listen(ctx context.Context, endpoints *program.Endpoints) {
	said := false
	for {
		stop, err := endpoints.Serve(ctx)
		if err == nil {
			<-ctx.Done()
			stop()
			return
		}
		if !said && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Working all the same, and trying again every minute")
			said = true
		}
		if !pause.For(ctx, serveRetry) {
			return
		}
	}
}
