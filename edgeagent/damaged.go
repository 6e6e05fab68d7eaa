package edgeagent

import (
	"context"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/runtime"
)

// Intact knows which images are damaged on disk: see package intact.
type Intact interface {
	// Hear takes in what the runtime holds and gives it with damaged images as not complete.
	Hear(runtime.Inventory) runtime.Inventory
	// Mend gives up what is damaged of an image, nothing where nothing is.
	Mend(ctx context.Context, d digest.Digest) error
}

// spared gives what of an inventory is not known to be damaged.
func (a *Agent) spared(inventory runtime.Inventory) runtime.Inventory {
	if a.options.Intact == nil {
		return inventory
	}
	return a.options.Intact.Hear(inventory)
}

// mend gives up what is damaged of an image that is to be brought.
func (a *Agent) mend(ctx context.Context, d digest.Digest) error {
	if a.options.Intact == nil {
		return nil
	}
	return a.options.Intact.Mend(ctx, d)
}
