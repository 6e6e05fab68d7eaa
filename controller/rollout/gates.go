package rollout

import (
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/fleet"
)

// Targets are the digests that an ImageCache's images stand for.
type Targets map[imageref.Reference]digest.Digest

// Gates remember who was let in. The zero value with a View is ready.
type Gates struct {
	View *fleet.View

	mu sync.RWMutex
	m  map[wish.Owner]gate // guarded by mu
}

// gate is one ImageCache's. It is never changed in place.
type gate struct {
	targets Targets
	nodes   map[string]bool
}

// Let lets nodes in to targets. Those let in to other targets before are not any more.
func (g *Gates) Let(owner wish.Owner, targets Targets, nodes []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := gate{targets: targets, nodes: map[string]bool{}}
	if before := g.m[owner]; maps.Equal(before.targets, targets) {
		maps.Copy(now.nodes, before.nodes)
	}
	for _, n := range nodes {
		now.nodes[n] = true
	}
	if g.m == nil {
		g.m = map[wish.Owner]gate{}
	}
	g.m[owner] = now
}

// Forget drops an ImageCache.
func (g *Gates) Forget(owner wish.Owner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.m, owner)
}

// In gives a function that says which nodes were let in to targets.
func (g *Gates) In(owner wish.Owner, targets Targets) func(node string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	at := g.m[owner]
	same := maps.Equal(at.targets, targets)
	return func(node string) bool { return same && at.nodes[node] }
}

// Holds says whether an owner does not yet let a node in to a digest.
func (g *Gates) Holds(owner wish.Owner, node string, ref imageref.Reference, target digest.Digest) bool {
	if c := g.View.Get(owner); c == nil || !c.Rollout {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	at := g.m[owner]
	return !at.nodes[node] || at.targets[ref] != target
}
