package sites

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// Key is one tag in one site.
type Key struct {
	Site string
	// Name is the canonical reference.
	Name string
}

// Move is a tag whose digest in a site was found or changed.
type Move struct {
	Key

	// Nodes are those of the site that resolve the tag.
	Nodes []string
}

// Sites is what tags stand for in each site. It is safe for concurrent use.
type Sites struct {
	mu      sync.RWMutex
	settled bool             // guarded by mu
	places  map[Key]*place   // guarded by mu
	known   map[string][]Key // by node; guarded by mu
}

// place is one tag in one site.
type place struct {
	digest  digest.Digest
	drifted bool             // some node found another
	done    bool             // deciding again would give the same
	claims  map[string]claim // by node
}

// New makes an empty table. It decides nothing before Settle.
func New() *Sites {
	return &Sites{places: map[Key]*place{}, known: map[string][]Key{}}
}

// Observe takes in a node's object as it stands now, and gives what moved. Of nodes that are
// not ready the specs may be old.
func (s *Sites) Observe(site string, object *v1alpha1.NodeImageCache, ready bool) []Move {
	claims := claimsOf(object, ready)
	s.mu.Lock()
	defer s.mu.Unlock()
	node := object.Name
	s.forget(node, func(k Key) bool { return k.Site == site && claims[k.Name].asked })
	var moved []Move
	for name, c := range claims {
		key := Key{Site: site, Name: name}
		p := s.places[key]
		if p == nil {
			p = &place{claims: map[string]claim{}}
			s.places[key] = p
		}
		if !slices.Contains(s.known[node], key) {
			s.known[node] = append(s.known[node], key)
		}
		if p.claims[node] == c && p.done {
			continue // most events say nothing new, and a site may have thousands of nodes
		}
		p.claims[node] = c
		if s.settled && p.decide() {
			moved = append(moved, Move{Key: key, Nodes: slices.Sorted(maps.Keys(p.claims))})
		}
	}
	return moved
}

// Forget drops a node.
func (s *Sites) Forget(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(node, func(Key) bool { return false })
}

// forget drops a node's claims but those that stay. Callers hold mu.
func (s *Sites) forget(node string, stays func(Key) bool) {
	s.known[node] = slices.DeleteFunc(s.known[node], func(k Key) bool {
		if stays(k) {
			return false
		}
		p := s.places[k]
		if delete(p.claims, node); len(p.claims) == 0 {
			delete(s.places, k)
		}
		p.drifted, p.done = p.drifts(), false
		return true
	})
	if len(s.known[node]) == 0 {
		delete(s.known, node)
	}
}

// Settle ends the start: every node's object was observed, and what is in the specs is kept.
func (s *Sites) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = true
	for _, p := range s.places {
		p.decide()
	}
}

// Digest gives what a tag stands for in a site, "" while that is not known. drifted says
// that some node of the site found another digest in its registry.
func (s *Sites) Digest(site string, ref imageref.Reference) (d digest.Digest, drifted bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.places[Key{Site: site, Name: ref.String()}]
	if p == nil {
		return "", false
	}
	return p.digest, p.drifted
}

// claim is what one node's object says of one tag that the node resolves.
type claim struct {
	asked bool // true in every claim
	ready bool // the node is: its spec is no old one
	// wished is the digest of the spec, "" for none; token and again as the spec has them.
	wished digest.Digest
	token  string
	again  bool // the tag is asked for again and again
	// found is what the agent reports, "" for nothing, for the token that it answered.
	found    digest.Digest
	answered string
	newer    bool // it was asked while the wished digest was
	observed bool // the report is that of an agent that has seen the spec
}

// claimsOf reads an object, by name.
func claimsOf(object *v1alpha1.NodeImageCache, ready bool) map[string]claim {
	var claims map[string]claim
	for i := range object.Spec.Images {
		img := &object.Spec.Images[i]
		if img.Resolve != v1alpha1.ResolveNode {
			continue
		}
		if claims == nil {
			claims = map[string]claim{}
		}
		c := claim{
			asked: true, ready: ready, wished: digest.Digest(img.Digest), token: img.RefreshToken, again: img.ResolveEvery != nil,
			observed: object.Status.ObservedGeneration == object.Generation,
		}
		c.hear(object.Status.Images, img)
		claims[img.Name] = c
	}
	return claims
}

// hear takes in the agent's report, whose entries are sorted by name.
func (c *claim) hear(images []v1alpha1.NodeImageStatus, img *v1alpha1.NodeImage) {
	i, _ := slices.BinarySearchFunc(images, img.Name, func(s v1alpha1.NodeImageStatus, n string) int { return cmp.Compare(s.Name, n) })
	for ; i < len(images) && images[i].Name == img.Name; i++ {
		said := images[i].Resolved
		if said == nil || imageref.CheckDigest(digest.Digest(said.Digest)) != nil {
			continue
		}
		c.found, c.answered = digest.Digest(said.Digest), said.RefreshToken
		c.newer = said.Newer && images[i].Digest == img.Digest
	}
}
