package wish

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// DefaultKeepPrevious is the number of earlier digests kept where nothing is said.
const DefaultKeepPrevious = 1

// Image is one image that a node should hold, with the policies of all caches that ask
// for it merged.
type Image struct {
	Ref          imageref.Reference
	Pin          v1alpha1.PinMode
	KeepPrevious int32
	Priority     int32
	// Owners are the caches that ask for the image here, sorted.
	Owners []Owner
	// Holders are those of the owners that are Suspended, sorted: they hold the image only
	// because the node's spec names them.
	Holders []Owner
	// ByNode are those of the owners that have nodes resolve the image, sorted. Suspended
	// ones are not among them.
	ByNode []Owner
	// Held is the digest that a Suspended cache holds the image at. It counts only as
	// long as no cache that is not suspended asks for the image too.
	Held digest.Digest
}

// For works out what a node should hold. current is what its spec has now; it matters
// only for suspended caches. The result is sorted by reference.
func For(node *corev1.Node, caches []*Cache, current []v1alpha1.NodeImage) []Image {
	m := merge{images: map[imageref.Reference]*Image{}}
	for _, c := range caches {
		switch c.state {
		case v1alpha1.StateCached:
			for _, r := range c.On(node) {
				m.add(c, r)
			}
		case v1alpha1.StateSuspended:
			m.hold(c, current)
		case v1alpha1.StatePurged:
		}
	}
	return m.sorted()
}

type merge struct {
	images map[imageref.Reference]*Image
}

// add lets a cache ask for an image.
func (m *merge) add(c *Cache, r imageref.Reference) {
	img := m.put(r, c.owner, c.policy)
	img.Held = ""
	if c.byNode {
		img.ByNode = append(img.ByNode, c.owner)
	}
}

// hold lets a suspended cache keep what the node's spec has on its behalf, policy
// included. An entry without a digest holds nothing.
func (m *merge) hold(c *Cache, current []v1alpha1.NodeImage) {
	for i := range current {
		if current[i].Digest == "" || !slices.Contains(current[i].Owners, string(c.owner)) {
			continue
		}
		r, err := imageref.Parse(current[i].Name)
		if err != nil {
			continue // not written by this version; the controller drops it
		}
		before, asked := m.images[r]
		live := asked && before.Held == ""
		img := m.put(r, c.owner, policyNow(&current[i]))
		img.Holders = append(img.Holders, c.owner)
		if !live {
			img.Held = digest.Digest(current[i].Digest)
		}
	}
}

func policyNow(img *v1alpha1.NodeImage) policy {
	p := policy{pin: cmp.Or(img.Pin, v1alpha1.PinAlways), keepPrevious: DefaultKeepPrevious, priority: img.Priority}
	if img.KeepPrevious != nil {
		p.keepPrevious = *img.KeepPrevious
	}
	return p
}

// put merges an owner's policy into an image.
func (m *merge) put(r imageref.Reference, owner Owner, p policy) *Image {
	img, ok := m.images[r]
	if !ok {
		img = &Image{Ref: r, Pin: p.pin, KeepPrevious: p.keepPrevious, Priority: p.priority}
		m.images[r] = img
	}
	if p.pin == v1alpha1.PinAlways {
		img.Pin = v1alpha1.PinAlways
	}
	img.KeepPrevious = max(img.KeepPrevious, p.keepPrevious)
	img.Priority = max(img.Priority, p.priority)
	img.Owners = append(img.Owners, owner)
	return img
}

func (m *merge) sorted() []Image {
	out := make([]Image, 0, len(m.images))
	for _, img := range m.images {
		slices.Sort(img.Owners)
		img.Owners = slices.Compact(img.Owners)
		slices.Sort(img.ByNode)
		slices.Sort(img.Holders)
		img.Holders = slices.Compact(img.Holders)
		out = append(out, *img)
	}
	slices.SortFunc(out, byRef)
	return out
}

func byRef(a, b Image) int { return imageref.Compare(a.Ref, b.Ref) }

// Limit keeps the n most important images: highest priority first, then by reference.
// Both results are sorted by reference.
func Limit(images []Image, n int) (kept, left []Image) {
	if len(images) <= n {
		return images, nil
	}
	ranked := slices.SortedFunc(slices.Values(images), func(a, b Image) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), byRef(a, b))
	})
	kept, left = ranked[:n:n], ranked[n:]
	slices.SortFunc(kept, byRef)
	slices.SortFunc(left, byRef)
	return kept, left
}
