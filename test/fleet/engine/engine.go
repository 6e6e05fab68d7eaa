package engine

import (
	"context"
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime"
)

// diskCapacity of each node in bytes.
const diskCapacity = 256 << 30

// Engine is the container runtime of one node.
type Engine struct {
	source *Source
	hints  chan struct{}

	mu      sync.Mutex // guards what follows
	link    Link
	names   runtime.Inventory
	content map[digest.Digest]*content
	counts  Counts
}

// content is what is there of an image.
type content struct {
	size, done int64
	whole      bool
	pulled     bool // and not given up since
}

var _ runtime.Driver = (*Engine)(nil)

// New makes an engine that holds nothing.
func New(source *Source, link Link) *Engine {
	return &Engine{
		source: source, link: link, hints: make(chan struct{}, 1),
		names: runtime.Inventory{}, content: map[digest.Digest]*content{},
	}
}

// SetLink changes how the engine reaches the registry, for pulls that begin after.
func (e *Engine) SetLink(link Link) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.link = link
}

// Info describes the engine.
func (e *Engine) Info(context.Context) (runtime.Info, error) {
	return runtime.Info{
		Name: "simulated", Version: "v1", Snapshotter: "none", Platform: "linux/amd64", Root: "/",
		Capabilities: []runtime.Capability{
			runtime.CanLimit, runtime.CanNameByDigest, runtime.CanPin, runtime.CanProgress, runtime.CanResume, runtime.CanUntag,
		},
	}, nil
}

// Inventory gives what the engine holds.
func (e *Engine) Inventory(context.Context) (runtime.Inventory, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.names), nil
}

// InUse gives nothing: no containers run.
func (e *Engine) InUse(context.Context) (map[string]struct{}, error) {
	return map[string]struct{}{}, nil
}

// Changes gives a hint after each change.
func (e *Engine) Changes(context.Context) <-chan struct{} { return e.hints }

func (e *Engine) hint() {
	select {
	case e.hints <- struct{}{}:
	default:
	}
}

// Pin pins names.
func (e *Engine) Pin(_ context.Context, names ...imageref.Reference) error {
	e.mark(names, func(h *runtime.Held) { h.Pinned = true })
	return nil
}

// Release makes names unmanaged.
func (e *Engine) Release(_ context.Context, names ...imageref.Reference) error {
	e.mark(names, func(h *runtime.Held) { h.Managed, h.Pinned = false, false })
	return nil
}

func (e *Engine) mark(names []imageref.Reference, change func(*runtime.Held)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range names {
		if h, ok := e.names[n]; ok {
			change(&h)
			e.names[n] = h
		}
	}
	e.hint()
}

// Remove removes names, and images without names.
func (e *Engine) Remove(_ context.Context, names ...imageref.Reference) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range names {
		delete(e.names, n)
	}
	named := map[digest.Digest]bool{}
	for _, h := range e.names {
		named[h.Digest] = true
	}
	for d, c := range e.content {
		if c.whole && !named[d] {
			e.counts.Removals++
			c.done, c.whole, c.pulled = 0, false, false
		}
	}
	e.hint()
	return nil
}

// Close does nothing.
func (e *Engine) Close() error { return nil }

// Disk gives the node's file system: full of what the engine holds and of nothing else.
func (e *Engine) Disk(string) (*v1alpha1.DiskStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	used := int64(0)
	for _, c := range e.content {
		used += c.done
	}
	return &v1alpha1.DiskStatus{Capacity: diskCapacity, Available: diskCapacity - used}, nil
}

// Holds gives what the engine holds: names to digests.
func (e *Engine) Holds() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]string, len(e.names))
	for n, h := range e.names {
		out[n.String()] = h.Digest.String()
	}
	return out
}

// Counts are what an engine did since it was made or last reset.
type Counts struct {
	// Pulls were completed, Broken were not; Duplicates are pulls of what had been pulled
	// before and not been given up.
	Pulls, Broken, Duplicates int
	// Removals are images given up.
	Removals int
}

// Add sums up.
func (c *Counts) Add(o Counts) {
	c.Pulls += o.Pulls
	c.Broken += o.Broken
	c.Duplicates += o.Duplicates
	c.Removals += o.Removals
}

// Counts gives what was done since the last reset.
func (e *Engine) Counts() Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts
}

// Reset begins a new count.
func (e *Engine) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts = Counts{}
}
