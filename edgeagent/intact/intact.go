package intact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/pause"
)

// Memory is what is needed of the store.
type Memory interface {
	Verification() (store.Verification, bool, error)
	PutVerification(store.Verification) error
}

// Options of a Guard. Zero values give the defaults.
type Options struct {
	// BootID of the node.
	BootID string
	// Rate bounds the reading, in bytes per second; default 8 MiB.
	Rate int64
	// Damaged is told when an image was found to be damaged; default nobody.
	Damaged func(runtime.Damage)
	// Changed is told when other images count as held than before: the runtime is to be
	// looked at. Default nobody.
	Changed func()
}

const (
	defaultRate = 8 << 20
	// saveEvery is how often progress is stored.
	saveEvery = time.Minute
	// retryEvery is the pause before an image that could not be read is tried again.
	retryEvery = time.Minute
	// tries is how often that is done while the runtime answers.
	tries = 5
	// discardEvery is the pause before what containers used is tried to be given up again.
	discardEvery = 5 * time.Minute
)

// Guard knows what is damaged and looks for more.
type Guard struct {
	memory   Memory
	verifier runtime.Verifier
	options  Options
	heard    chan struct{} // closed with the first inventory

	discarding sync.Mutex // one at a time

	mu    sync.Mutex // guards what follows
	state store.Verification
	saved time.Time
	held  runtime.Inventory
}

// New reads what is remembered and notes the boot.
func New(ctx context.Context, memory Memory, verifier runtime.Verifier, o Options) (*Guard, error) {
	o.Rate = cmp.Or(o.Rate, defaultRate)
	before, found, err := memory.Verification()
	if err != nil {
		return nil, fmt.Errorf("recalling which images were verified: %w", err)
	}
	g := &Guard{memory: memory, verifier: verifier, options: o, heard: make(chan struct{}), state: begin(before, found, o.BootID)}
	g.save(ctx)
	return g, nil
}

// Hear takes in what the runtime holds and gives it with what is known to be damaged as not
// complete.
func (g *Guard) Hear(inventory runtime.Inventory) runtime.Inventory {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		close(g.heard)
	}
	g.held = inventory
	if len(g.state.Damaged) == 0 {
		return inventory
	}
	out := maps.Clone(inventory)
	for name, h := range out {
		if damaged(g.state, h.Digest.String()) {
			h.Complete = false
			out[name] = h
		}
	}
	return out
}

// Mend gives up what is damaged of an image, before it is brought anew. It does nothing for
// one that is not known to be damaged.
func (g *Guard) Mend(ctx context.Context, d digest.Digest) error {
	g.discarding.Lock()
	defer g.discarding.Unlock()
	damage, ok := g.damage(d)
	if !ok {
		return nil
	}
	if err := g.verifier.Discard(ctx, damage); err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Gave up what is damaged of an image", "digest", d, "damage", damage.What)
	g.change(ctx, func(v *store.Verification) {
		v.Damaged = slices.DeleteFunc(v.Damaged, func(x store.Damaged) bool { return x.Digest == d.String() })
	})
	return nil
}

// Run reads until all is read, and what is damaged is given up. It ends before with the
// context.
func (g *Guard) Run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-g.heard:
	}
	begun := time.Now()
	if n := g.readAll(ctx); n > 0 {
		klog.FromContext(ctx).Info("Images verified after an unclean boot", "images", n, "took", time.Since(begun).Round(time.Second))
	}
	for more := true; more; { // what containers use goes when they do
		more = g.mendAll(ctx) && pause.For(ctx, discardEvery)
	}
}

// Stopped notes that the agent was told to stop.
func (g *Guard) Stopped(ctx context.Context) {
	g.change(ctx, func(v *store.Verification) { v.Clean = true })
}

// readAll reads one image after the other and says how many.
func (g *Guard) readAll(ctx context.Context) (n int) {
	limit, failures := rate.NewLimiter(rate.Limit(g.options.Rate), fetch.ChunkSize), 0
	for g.due() && ctx.Err() == nil {
		image, ok := g.next()
		if !ok {
			g.change(ctx, func(v *store.Verification) { v.Due, v.Through = false, nil })
			return n
		}
		damage, err := g.verifier.Verify(ctx, digest.Digest(image.Digest), limit)
		switch {
		case ctx.Err() != nil:
			return n
		case err != nil && failures < tries && g.holds(image.Digest):
			if !errors.Is(err, runtime.ErrAway) { // for as long as that lasts
				failures++
			}
			klog.FromContext(ctx).V(1).Info("Image not verified, trying again", "digest", image.Digest, "err", err)
			pause.For(ctx, retryEvery)
			continue
		case err != nil:
			klog.FromContext(ctx).Error(err, "Image not verified", "digest", image.Digest)
		}
		failures, n = 0, n+1
		g.read(ctx, image, damage)
	}
	return n
}

// read notes that an image was read, and what was found.
func (g *Guard) read(ctx context.Context, image store.Verified, damage runtime.Damage) {
	if !damage.Found() {
		g.mu.Lock()
		g.state.Through = &image
		due := time.Since(g.saved) >= saveEvery
		g.mu.Unlock()
		if due {
			g.save(ctx)
		}
		return
	}
	klog.FromContext(ctx).Error(nil, "An image is damaged, and will be brought anew", "digest", image.Digest, "damage", damage.What)
	g.change(ctx, func(v *store.Verification) {
		v.Through = &image
		v.Damaged = append(v.Damaged, stored(damage))
	})
	if g.options.Damaged != nil {
		g.options.Damaged(damage)
	}
	g.changed()
	if err := g.Mend(ctx, damage.Digest); err != nil {
		klog.FromContext(ctx).Info("What is damaged is not given up yet", "digest", image.Digest, "err", err)
	}
	g.changed()
}

func (g *Guard) changed() {
	if g.options.Changed != nil {
		g.options.Changed()
	}
}

// mendAll tries to give up what is damaged and says whether anything is left. What the
// runtime has not any more is forgotten.
func (g *Guard) mendAll(ctx context.Context) (left bool) {
	g.mu.Lock()
	all := slices.Clone(g.state.Damaged)
	g.mu.Unlock()
	for _, x := range all {
		if !g.holds(x.Digest) {
			g.change(ctx, func(v *store.Verification) {
				v.Damaged = slices.DeleteFunc(v.Damaged, func(y store.Damaged) bool { return y.Digest == x.Digest })
			})
			continue
		}
		if err := g.Mend(ctx, digest.Digest(x.Digest)); err != nil {
			left = true
			continue
		}
		g.changed()
	}
	return left
}

func (g *Guard) due() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Due
}

func (g *Guard) next() (store.Verified, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return next(g.held, g.state)
}

// holds says whether the runtime has an image.
func (g *Guard) holds(d string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.held {
		if h.Digest.String() == d {
			return true
		}
	}
	return false
}

func (g *Guard) damage(d digest.Digest) (runtime.Damage, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range g.state.Damaged {
		if x.Digest == d.String() {
			return loaded(x), true
		}
	}
	return runtime.Damage{}, false
}

// change changes the state and stores it.
func (g *Guard) change(ctx context.Context, do func(*store.Verification)) {
	g.mu.Lock()
	do(&g.state)
	g.mu.Unlock()
	g.save(ctx)
}

func (g *Guard) save(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.saved = time.Now()
	if err := g.memory.PutVerification(g.state); err != nil {
		klog.FromContext(ctx).Error(err, "Not stored which images were verified")
	}
}

func stored(d runtime.Damage) store.Damaged {
	x := store.Damaged{Digest: d.Digest.String(), Snapshot: d.Snapshot, What: d.What}
	for _, b := range d.Blobs {
		x.Blobs = append(x.Blobs, b.String())
	}
	return x
}

func loaded(x store.Damaged) runtime.Damage {
	d := runtime.Damage{Digest: digest.Digest(x.Digest), Snapshot: x.Snapshot, What: x.What}
	for _, b := range x.Blobs {
		d.Blobs = append(d.Blobs, digest.Digest(b))
	}
	return d
}
