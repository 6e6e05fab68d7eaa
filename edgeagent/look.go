package edgeagent

import (
	"context"
	"fmt"
	"sync"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// look reads the runtime and works out the next steps.
func (a *Agent) look(ctx context.Context) error {
	running := a.runningNames()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	back := sync.OnceFunc(a.pulse.away())
	defer back()
	info, err := a.driver.Info(call)
	if err != nil {
		return fmt.Errorf("asking the container runtime who it is: %w", err)
	}
	inventory, err := a.driver.Inventory(call)
	if err != nil {
		return fmt.Errorf("listing images: %w", err)
	}
	inventory = a.spared(inventory)
	inUse, err := a.driver.InUse(call)
	back()
	a.trouble.note(ctx, withUse, err, "Images in use not known, removing none")
	info.SandboxImage = a.sandboxImage(info)
	a.rememberSandbox(info)
	a.info, a.inventory = info, inventory
	a.measure(ctx, inUse)
	a.input = plan.Input{
		Desired: a.desired, Ledger: a.ledger, Inventory: inventory, InUse: inUse, UseUnknown: err != nil, Running: running,
		Names: info.Can(runtime.CanNameByDigest), Pins: info.Can(runtime.CanPin), Untags: info.Can(runtime.CanUntag),
		Sandbox: info.SandboxImage,
	}
	a.steps = plan.Next(a.input)
	a.risk = a.assess()
	a.seen = seen{uid: a.desired.UID, generation: a.desired.Generation}
	a.remember(ctx, append(a.lost(), a.witness()...), a.steps.Drop)
	return nil
}

// sandboxImage gives the sandbox image of a runtime: what it tells, else what is remembered
// of it, else, where the store was lost, what an earlier process reported. That a runtime
// without pods does not tell is no news.
func (a *Agent) sandboxImage(now runtime.Info) imageref.Reference {
	known := []store.Sandbox{{Runtime: now.Name, Image: now.SandboxImage.String()}}
	if a.desired.Sandbox != nil {
		known = append(known, *a.desired.Sandbox)
	}
	if a.object != nil {
		said := a.object.Status.Runtime
		known = append(known, store.Sandbox{Runtime: said.Name, Image: said.SandboxImage})
	}
	for _, k := range known {
		if image, err := imageref.Parse(k.Image); err == nil && k.Runtime == now.Name {
			return image
		}
	}
	return imageref.Reference{}
}

// rememberSandbox has a sandbox image stored with the wish, by the next write.
func (a *Agent) rememberSandbox(info runtime.Info) {
	now := store.Sandbox{Runtime: info.Name, Image: info.SandboxImage.String()}
	if info.SandboxImage.IsZero() || a.desired.Sandbox != nil && *a.desired.Sandbox == now {
		return
	}
	a.desired.Sandbox, a.owes.desired = &now, true
}
