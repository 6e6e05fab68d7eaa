package edgeagent

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime"
)

// disked is the runtime in memory with a disk below it: images take room while they come in,
// compressed and unpacked, and give it back when their last name goes.
type disked struct {
	*driver
	capacity int64

	mu       sync.Mutex // guards what follows
	sizes    map[digest.Digest]weight
	there    map[digest.Digest]int64 // bytes on disk
	outside  int64                   // bytes of others
	least    int64                   // available at the worst of times that images were to blame for
	gone     []string                // names that were removed, in order
	unserved bool                    // the registry is dark
}

// weight is what an image is, in bytes.
type weight struct {
	fetch, unpack int64
	guess         int64 // of unpack; 0 is what it is
}

const (
	mib     = 1 << 20
	perTick = 10 * mib // 1 GiB/s
	tick    = 10 * time.Millisecond
)

func newDisked(d *driver, capacity int64) *disked {
	return &disked{driver: d, capacity: capacity, least: capacity, sizes: map[digest.Digest]weight{}, there: map[digest.Digest]int64{}}
}

func (d *disked) locked(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

func (d *disked) used() (n int64) {
	for _, b := range d.there {
		n += b
	}
	return n + d.outside
}

func (d *disked) disk(string) (*v1alpha1.DiskStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &v1alpha1.DiskStatus{Capacity: d.capacity, Available: max(0, d.capacity-d.used())}, nil
}

// fill has others use so many bytes.
func (d *disked) fill(n int64) { d.locked(func() { d.outside = n }) }

func (d *disked) Info(ctx context.Context) (runtime.Info, error) {
	info, err := d.driver.Info(ctx)
	info.Root = "/images"
	info.Capabilities = append(info.Capabilities, runtime.CanProgress)
	return info, err
}

func (d *disked) Serves(context.Context, imageref.Reference, digest.Digest) (err error) {
	d.locked(func() {
		if d.unserved {
			err = fmt.Errorf("dialling the registry: %w", syscall.ENETUNREACH)
		}
	})
	return err
}

func (d *disked) Weigh(context.Context) (map[imageref.Reference][]runtime.Part, error) {
	out := map[imageref.Reference][]runtime.Part{}
	for name, h := range d.holds() {
		d.locked(func() { out[name] = []runtime.Part{{ID: h.Digest.String(), Size: d.there[h.Digest]}} })
	}
	return out, nil
}

func (d *disked) Ensure(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	var w weight
	var there int64
	d.locked(func() { w, there = d.sizes[r.Digest], d.there[r.Digest] })
	fetched := min(there, w.fetch)
	progress(runtime.Progress{Size: w.fetch, Done: fetched})
	need := runtime.Need{Fetch: w.fetch - fetched}
	if there < w.fetch+w.unpack {
		if need.Unpack = w.unpack; w.guess > 0 {
			need.Unpack = w.guess
		}
	}
	if err := r.Admit(ctx, need); err != nil {
		return err
	}
	for there < w.fetch+w.unpack {
		time.Sleep(tick)
		if ctx.Err() != nil {
			d.locked(func() { d.there[r.Digest] = min(there, w.fetch) }) // a layer that is half unpacked goes
			return context.Cause(ctx)
		}
		there = min(there+perTick, w.fetch+w.unpack)
		if err := d.write(r.Digest, there); err != nil {
			return err
		}
		progress(runtime.Progress{Size: w.fetch, Done: min(there, w.fetch)})
	}
	return d.driver.Ensure(ctx, r, func(runtime.Progress) {})
}

func (d *disked) write(dg digest.Digest, n int64) (err error) {
	d.locked(func() {
		before := d.there[dg]
		d.there[dg] = n
		if d.used() > d.capacity {
			d.there[dg] = before
			err = runtime.Failed("writing", syscall.ENOSPC)
		}
		if d.outside == 0 {
			d.least = min(d.least, d.capacity-d.used())
		}
	})
	return err
}

// Remove removes names, and content without any.
func (d *disked) Remove(ctx context.Context, names ...imageref.Reference) error {
	holds := d.holds()
	var candidates []digest.Digest
	for _, n := range names {
		candidates = append(candidates, n.Digest(), holds[n].Digest)
		d.locked(func() { d.gone = append(d.gone, n.String()) })
	}
	if err := d.driver.Remove(ctx, names...); err != nil {
		return err
	}
	named := map[digest.Digest]bool{}
	for _, h := range d.holds() {
		named[h.Digest] = true
	}
	for _, c := range candidates {
		if !named[c] {
			d.locked(func() { delete(d.there, c) })
		}
	}
	d.hint()
	return nil
}
