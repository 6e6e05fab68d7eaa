package layout

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
)

// Changes looks at the directory every now and then. inotify would tell sooner, but not of
// what happens on the far side of a network or overlay file system, and needs a watch for
// each directory.
func (d *Driver) Changes(ctx context.Context) <-chan struct{} {
	hints := make(chan struct{}, 1)
	go func() {
		t := time.NewTicker(d.options.PollEvery)
		defer t.Stop()
		seed := maphash.MakeSeed()
		for last := d.fingerprint(ctx, seed); ; {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			if now := d.fingerprint(ctx, seed); now != last {
				last = now
				select {
				case hints <- struct{}{}:
				default: // one is waiting
				}
			}
		}
	}()
	return hints
}

// fingerprint sums up what the index names and which of it is there. What Ensure did is
// counted, or an image that came and was lost between two looks would look like nothing.
func (d *Driver) fingerprint(ctx context.Context, seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprint(&h, d.named)
	idx, err := d.readIndex()
	if err != nil {
		fmt.Fprint(&h, err)
		return h.Sum64()
	}
	for _, e := range idx.Manifests {
		fmt.Fprint(&h, e.Digest, e.Annotations)
		img, err := d.describe(ctx, e.Digest)
		if err != nil {
			img = fetch.Image{Target: ocispec.Descriptor{Digest: e.Digest}}
		}
		for _, b := range append(img.Blobs(), img.Target, img.Manifest) {
			if info, err := d.store.Info(ctx, b.Digest); err == nil {
				fmt.Fprint(&h, b.Digest, info.Size)
			}
		}
	}
	return h.Sum64()
}
