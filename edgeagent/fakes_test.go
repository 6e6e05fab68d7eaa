package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// disk is a memory that cannot be written while it is full.
type disk struct {
	Memory
	full atomic.Bool
	held atomic.Pointer[chan struct{}] // writes wait until it is closed
}

// hold has writes hang.
func (d *disk) hold(until chan struct{}) { d.held.Store(&until) }

var errNoSpace = errors.New("no space left on device")

// Write fails while the disk is full.
func (d *disk) Write(c store.Change) error {
	if held := d.held.Load(); held != nil {
		<-*held
	}
	if d.full.Load() {
		return errNoSpace
	}
	return d.Memory.Write(c)
}

// desk takes statuses.
type desk struct {
	mu   sync.Mutex
	last *v1alpha1.NodeImageCacheStatus
}

// Offer keeps the newest status.
func (d *desk) Offer(_ types.UID, s *v1alpha1.NodeImageCacheStatus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = s
}

func (d *desk) expect(t *testing.T, generation int64, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	var got []string
	for _, s := range d.last.Images {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Name, s.Phase, s.Reason)))
	}
	if diff := cmp.Diff(want, got); diff != "" || d.last.ObservedGeneration != generation {
		t.Errorf("status of generation %d, want %d (-want +got):\n%s", d.last.ObservedGeneration, generation, diff)
	}
}

func (d *desk) sandboxImage() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last.Runtime.SandboxImage
}

func (d *desk) condition(kind string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.last.Conditions {
		if c.Type == kind {
			return c.Message
		}
	}
	return ""
}

// driver is a runtime in memory.
type driver struct {
	mu        sync.Mutex
	inventory runtime.Inventory
	hints     chan struct{}
	started   []string
	times     []time.Time
	failures  []error
	takes     time.Duration
	comes     int64 // bytes a second of what Ensure brings, for takes; 0 tells of none
	forgets   bool
	away      bool
	hangs     bool // Info lasts until its context ends
	blind     bool // InUse fails
	stubborn  bool // Ensure goes on for a while when it is cancelled, and names the image
	removed   []string
	used      map[string]struct{}
	sandbox   imageref.Reference
	busy      int
	most      int
	cancelled int
}

var _ runtime.Driver = (*driver)(nil)

func newDriver() *driver {
	return &driver{inventory: runtime.Inventory{}, hints: make(chan struct{}, 1)}
}

func (d *driver) fail(reason fetch.Reason, times int) {
	for range times {
		d.with(func() { d.failures = append(d.failures, &fetch.Error{Reason: reason, Err: errors.New("no")}) })
	}
}

func (d *driver) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for r := range d.holds() {
		got = append(got, r.String())
	}
	slices.Sort(got)
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("the runtime holds %v, want %s too", got, w)
		}
	}
}

func (d *driver) with(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

func (d *driver) holds() (inv runtime.Inventory) {
	d.with(func() { inv = maps.Clone(d.inventory) })
	return inv
}

func (d *driver) calls() (names []string) {
	d.with(func() { names = slices.Clone(d.started) })
	return names
}

func (d *driver) last() (at time.Time) {
	d.with(func() { at = d.times[len(d.times)-1] })
	return at
}

func (d *driver) counts() (most, cancelled int) {
	d.with(func() { most, cancelled = d.most, d.cancelled })
	return most, cancelled
}

func (d *driver) setTakes(t time.Duration) { d.with(func() { d.takes = t }) }
func (d *driver) setAway(away bool)        { d.with(func() { d.away = away }) }

func (d *driver) use(digests ...digest.Digest) {
	d.with(func() {
		d.used = map[string]struct{}{}
		for _, x := range digests {
			d.used[x.Encoded()] = struct{}{}
		}
	})
}

func (d *driver) lose(name string) {
	d.with(func() { delete(d.inventory, ref(name)) })
	d.hint()
}

func (d *driver) put(name string, x digest.Digest) {
	d.with(func() { d.inventory[ref(name)] = runtime.Held{Digest: x, ID: x.Encoded(), Complete: true} })
}

func (d *driver) hint() {
	select {
	case d.hints <- struct{}{}:
	default:
	}
}

func (d *driver) Info(ctx context.Context) (runtime.Info, error) {
	var hangs, away bool
	var sandbox imageref.Reference
	d.with(func() { hangs, away, sandbox = d.hangs, d.away, d.sandbox })
	if hangs {
		<-ctx.Done()
		return runtime.Info{}, context.Cause(ctx)
	}
	if away {
		return runtime.Info{}, errors.New("the runtime is away")
	}
	can := []runtime.Capability{runtime.CanNameByDigest, runtime.CanPin, runtime.CanUntag}
	return runtime.Info{Name: "memory", Capabilities: can, SandboxImage: sandbox}, nil
}

func (d *driver) Inventory(context.Context) (runtime.Inventory, error) { return d.holds(), nil }

func (d *driver) InUse(context.Context) (used map[string]struct{}, err error) {
	d.with(func() {
		if used = maps.Clone(d.used); d.blind {
			err = errors.New("containers not listed")
		}
	})
	return used, err
}

func (d *driver) Changes(context.Context) <-chan struct{} { return d.hints }

func (d *driver) Ensure(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	var takes time.Duration
	var comes int64
	var failure error
	d.with(func() {
		d.started, d.times = append(d.started, r.Name.String()), append(d.times, time.Now())
		d.busy++
		d.most = max(d.most, d.busy)
		takes, comes = d.takes, d.comes
		if len(d.failures) > 0 {
			failure, d.failures = d.failures[0], d.failures[1:]
		}
	})
	defer d.with(func() { d.busy-- })
	progress(runtime.Progress{Size: 100})
	for came := time.Duration(0); comes > 0 && came < takes && ctx.Err() == nil; {
		progress(runtime.Progress{Size: comes * int64(takes/time.Second), Done: comes * int64(came/time.Second)})
		time.Sleep(time.Second)
		came += time.Second
		progress(runtime.Progress{Size: comes * int64(takes/time.Second), Done: comes * int64(came/time.Second)})
	}
	select {
	case <-ctx.Done():
		stubborn := false
		d.with(func() { d.cancelled++; stubborn = d.stubborn })
		if !stubborn {
			return context.Cause(ctx)
		}
		time.Sleep(20 * time.Second)
	case <-time.After(max(0, takes*time.Duration(1-min(comes, 1)))):
	}
	if failure != nil {
		return failure
	}
	d.with(func() {
		for _, n := range runtime.NamesOf(r.Name, r.Digest) {
			if !d.forgets {
				d.inventory[n] = runtime.Held{Digest: r.Digest, ID: r.Digest.Encoded(), Complete: true, Managed: true, Pinned: r.Pin}
			}
		}
	})
	d.hint()
	return nil
}

func (d *driver) Pin(_ context.Context, names ...imageref.Reference) error {
	d.with(func() {
		for _, n := range names {
			h := d.inventory[n]
			h.Pinned = true
			d.inventory[n] = h
		}
	})
	return nil
}

func (d *driver) Release(_ context.Context, names ...imageref.Reference) error {
	d.with(func() {
		for _, n := range names {
			h := d.inventory[n]
			h.Managed, h.Pinned = false, false
			d.inventory[n] = h
		}
	})
	return nil
}

func (d *driver) Remove(_ context.Context, names ...imageref.Reference) error {
	d.with(func() {
		for _, n := range names {
			delete(d.inventory, n)
			d.removed = append(d.removed, n.String())
		}
	})
	return nil
}

func (d *driver) Close() error { return nil }

func digestOf(c byte) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(string(c), 64)) }

func ref(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}
