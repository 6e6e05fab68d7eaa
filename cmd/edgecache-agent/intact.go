package main

import (
	"context"

	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/intact"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// verification has what is held read through after an unclean boot, by drivers that can.
type verification struct {
	guard *intact.Guard    // nil where the driver cannot
	agent *edgeagent.Agent // set before it runs
}

func newVerification(ctx context.Context, c *config, memory *store.Store, driver runtime.Driver) (*verification, error) {
	v := &verification{}
	verifier, ok := driver.(runtime.Verifier)
	if !ok {
		return v, nil
	}
	perSecond, err := c.verifyRate()
	if err != nil {
		return v, err
	}
	v.guard, err = intact.New(ctx, memory, verifier, intact.Options{
		BootID: bootID(), Rate: perSecond, Damaged: v.note, Changed: func() { v.agent.Look() },
	})
	return v, err
}

// note has damage told as an Event, when there is somebody to tell.
func (v *verification) note(d runtime.Damage) {
	v.agent.Note(store.Record{Kind: store.ImageDamaged, Digest: d.Digest.String(), Message: d.What})
}

// options adds to those of the agent.
func (v *verification) options(o edgeagent.Options) edgeagent.Options {
	if v.guard != nil {
		o.Intact = v.guard
	}
	return o
}

// run verifies in the background and notes that the agent was told to stop.
func (v *verification) run(ctx context.Context) {
	if v.guard == nil {
		return
	}
	v.guard.Run(ctx)
	<-ctx.Done()
	v.guard.Stopped(context.WithoutCancel(ctx))
}
