package rollout

import (
	"cmp"
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/fleet"
)

// Image is an image as it stands for a digest: in the whole fleet, or in one site.
type Image struct {
	Ref imageref.Reference
	// Site where nodes resolve the image, "" for the whole fleet.
	Site string
}

// Targets are the digests that an ImageCache's images stand for.
type Targets map[Image]digest.Digest

// Of gives the digest of an image on the nodes of a site, "" while there is none.
func (t Targets) Of(ref imageref.Reference, site string) digest.Digest {
	return cmp.Or(t[Image{Ref: ref}], t[Image{Ref: ref, Site: site}])
}

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

// In says whether a node was let in to targets.
func (g *Gates) In(owner wish.Owner, targets Targets, node string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	at := g.m[owner]
	return at.nodes[node] && maps.Equal(at.targets, targets)
}

// Holds says whether an owner does not yet let a node of a site in to a digest.
func (g *Gates) Holds(owner wish.Owner, node, site string, ref imageref.Reference, target digest.Digest) bool {
	if c := g.View.Get(owner); c == nil || !c.Rollout {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	at := g.m[owner]
	return !at.nodes[node] || at.targets.Of(ref, site) != target
}
