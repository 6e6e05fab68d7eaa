package main

import (
	"context"
	"errors"
	"time"

	"k8s.io/klog/v2"

	"edgecache.dev/edgeagent/runtime/discover"
	"edgecache.dev/internal/pause"
)

const (
	// discoverEvery is the time between looks for a runtime that is not there yet.
	discoverEvery = 2 * time.Second
	// discoverReminder is the time between two lines of the log that say so.
	discoverReminder = 10 * time.Minute
)

// found fills in what the settings leave to the node: which runtime there is below a root,
// and where its registries' settings are. It waits for a runtime that starts after the agent.
func (c *config) found(ctx context.Context, root string) error {
	if c.Runtime == runtimeLayout {
		c.HostsDirs = orStandard(c.HostsDirs, discover.At("").HostsDirs)
		return nil
	}
	r := discover.At(c.RuntimeEndpoint)
	if c.RuntimeEndpoint == "" {
		var err error
		if r, err = awaitRuntime(ctx, root, discover.Driver(c.Runtime)); err != nil {
			return err
		}
		klog.FromContext(ctx).Info("Found the container runtime", "socket", r.Socket, "driver", r.Driver)
	}
	if c.Runtime == "" {
		c.Runtime = string(r.Driver)
	}
	c.RuntimeEndpoint = r.Socket
	c.HostsDirs = orStandard(c.HostsDirs, r.HostsDirs)
	return nil
}

func orStandard(set, standard []string) []string {
	if len(set) > 0 {
		return set
	}
	return standard
}

// awaitRuntime looks for a runtime until there is one. It does not wait for a choice that
// only the user can make.
func awaitRuntime(ctx context.Context, root string, only discover.Driver) (discover.Runtime, error) {
	var said time.Time
	for {
		r, err := discover.Find(root, only)
		if err == nil || !errors.Is(err, discover.ErrNone) {
			return r, err
		}
		if time.Since(said) >= discoverReminder {
			klog.FromContext(ctx).Info("Waiting for a container runtime", "why", err.Error())
			said = time.Now()
		}
		if !pause.For(ctx, discoverEvery) {
			return r, errors.Join(context.Cause(ctx), err)
		}
	}
}
