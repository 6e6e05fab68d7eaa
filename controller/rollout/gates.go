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
	m  map[wish.Owner]Gate // guarded by mu
}

// Gate is one ImageCache's. It is never changed in place.
type Gate struct {
	// Targets are what nodes were let in to last.
	Targets Targets
	nodes   map[string]bool
}

// LetIn says whether a node was let in to the gate's targets.
func (g Gate) LetIn(node string) bool { return g.nodes[node] }

// Let lets nodes in to targets. Those let in to other targets before are not any more.
func (g *Gates) Let(owner wish.Owner, targets Targets, nodes []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := Gate{Targets: targets, nodes: map[string]bool{}}
	if before := g.m[owner]; maps.Equal(before.Targets, targets) {
		maps.Copy(now.nodes, before.nodes)
	}
	for _, n := range nodes {
		now.nodes[n] = true
	}
	if g.m == nil {
		g.m = map[wish.Owner]Gate{}
	}
	g.m[owner] = now
}

// Forget drops an ImageCache.
func (g *Gates) Forget(owner wish.Owner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.m, owner)
}

// Of gives an ImageCache's gate as it stands; its zero value while nobody was let in.
func (g *Gates) Of(owner wish.Owner) Gate {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.m[owner]
}

// Holds says whether an owner does not yet let a node of a site in to a digest.
func (g *Gates) Holds(owner wish.Owner, node, site string, ref imageref.Reference, target digest.Digest) bool {
	if c := g.View.Get(owner); c == nil || !c.Rollout {
		return false
	}
	at := g.Of(owner)
	return !at.LetIn(node) || at.Targets.Of(ref, site) != target
}
