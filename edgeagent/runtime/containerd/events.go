package containerd

import (
	"context"
	"fmt"
	"time"
)

// resubscribe is the pause before containerd is asked for events again.
const resubscribe = time.Second

// newContainer is the topic of new containers, those of pod sandboxes among them.
const newContainer = "/containers/create"

// Changes listens to containerd's events about images and about content and snapshots that
// go, and until the sandbox image is known about containers that come. While containerd is
// away nothing can be heard, so its return is a hint as well.
func (d *Driver) Changes(ctx context.Context) <-chan struct{} {
	hints := make(chan struct{}, 1)
	go func() {
		for ctx.Err() == nil {
			d.listen(ctx, hints)
			select {
			case <-ctx.Done():
			case <-time.After(resubscribe):
			}
		}
	}()
	return hints
}

// listen passes on hints until the subscription ends.
func (d *Driver) listen(ctx context.Context, hints chan<- struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var filters []string
	for _, topic := range []string{`topic~="^/images/"`, `topic=="/content/delete"`, `topic=="/snapshot/remove"`, `topic=="` + newContainer + `"`} {
		filters = append(filters, fmt.Sprintf("namespace==%q,%s", d.options.Namespace, topic))
	}
	events, errs := d.client.Subscribe(ctx, filters...)
	for {
		select {
		case e := <-events:
			if e == nil || e.Topic != newContainer || d.sandbox.Image().IsZero() {
				hint(hints)
			}
		case <-errs: //nolint:errcheck // whatever ended it, it is begun anew
			hint(hints)
			return
		}
	}
}

// hint leaves a hint unless one is waiting.
func hint(hints chan<- struct{}) {
	select {
	case hints <- struct{}{}:
	default:
	}
}
