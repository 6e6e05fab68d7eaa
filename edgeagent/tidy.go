package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/klog/v2"
)

// tidy carries out removals, releases and pins. It says whether there is something new to
// see.
func (a *Agent) tidy(ctx context.Context) bool {
	names := slices.Concat(a.steps.Superseded, a.steps.Halves)
	for _, r := range a.steps.Removals {
		names = append(names, r.Names...)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer a.pulse.away()()
	var err error
	if len(a.steps.Release) > 0 {
		err = a.driver.Release(call, a.steps.Release...)
	}
	if len(a.steps.Pin) > 0 {
		klog.FromContext(ctx).Info("Pinning the sandbox image", "names", a.steps.Pin)
		err = errors.Join(err, a.driver.Pin(call, a.steps.Pin...))
	}
	if len(names) > 0 {
		if now := fmt.Sprint(names); now != a.removing { // what cannot be removed is tried again for ever
			a.removing = now
			klog.FromContext(ctx).Info("Removing images", "names", names)
		}
		err = errors.Join(err, a.driver.Remove(call, names...))
	}
	a.trouble.note(ctx, withTidying, err, "Images not removed, let go or pinned, trying again")
	return len(names) > 0 && err == nil
}
