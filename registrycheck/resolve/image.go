package resolve

import (
	"errors"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// Limits of an image. What goes beyond the first three is not kept or refused; they are
// those of the ImageContent kind.
const (
	MaxPlatforms = 32
	MaxLayers    = 256
	// maxEntries is how many entries an index may have, nested ones included.
	maxEntries = 1000
	// maxDepth is 2: an index may hold indexes, which hold images.
	maxDepth = 2
	// maxNested is how many indexes an index may hold.
	maxNested = 8
	// maxBlobSize is far above any real layer and keeps sums from overflowing.
	maxBlobSize = 1 << 40
)

// Image is what stands behind a reference.
type Image struct {
	// Reference is what was asked for.
	Reference imageref.Reference
	// Digest is that of the index, or of the manifest where there is no index.
	Digest digest.Digest
	// MediaType is that of the object that Digest names.
	MediaType string
	// Index says whether that object is an index.
	Index bool
	// Platforms are the Linux platforms in the order of the index, 1 to 32.
	Platforms []Platform
	// Omitted is how many Linux platforms beyond the 32nd were left out.
	Omitted int
	// Absent are platforms that the index names and the registry does not hold, such
	// as linux/s390x in a sparse mirror.
	Absent []string
	// Host is the registry or mirror that answered.
	Host string
}

// Platform is an image for one platform, in containerd's normal form: linux/arm64 has
// no variant v8, linux/arm always has a variant.
type Platform struct {
	OS, Architecture, Variant string
	// Implied says that the index does not state the platform, so that it was read from
	// the configuration. Runtimes take such an entry only when no stated one fits. It is
	// not kept in ImageContents: hardly any index has such entries.
	Implied          bool
	Manifest, Config digest.Digest
	// Size is what a node downloads, in bytes: manifest, configuration and each
	// distinct layer once.
	Size int64
	// Layers are the compressed layers, base first, at most 256.
	Layers []Layer
}

// Layer is one compressed layer.
type Layer struct {
	Digest digest.Digest
	Size   int64 // bytes
}

// String gives "linux/arm/v7".
func (p Platform) String() string { return platforms.Format(p.spec()) }

func (p Platform) spec() platforms.Platform {
	return platforms.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// For gives the platform that a node takes, by containerd's rules: a linux/arm/v8 node
// runs v7 and below, the best match wins. An image that is no index has one platform and
// every node takes it: runtimes do not compare there.
func (i Image) For(node platforms.Platform) (Platform, bool) {
	if !i.Index && len(i.Platforms) == 1 {
		return i.Platforms[0], true
	}
	if node.OS == "" {
		node.OS = "linux" // not that of the machine on which this runs
	}
	best := -1
	rank := platforms.Only(node)
	for n, p := range i.Platforms {
		if rank.Match(p.spec()) && (best < 0 || p.before(i.Platforms[best], rank)) {
			best = n
		}
	}
	if best < 0 {
		return Platform{}, false
	}
	return i.Platforms[best], true
}

// before says whether a runtime takes p rather than q, which stands before it.
func (p Platform) before(q Platform, rank platforms.MatchComparer) bool {
	if p.Implied || q.Implied {
		return !p.Implied
	}
	return rank.Less(p.spec(), q.spec())
}

// SizeFor gives what a node of that platform downloads, in bytes; false when the image
// has nothing for it.
func (i Image) SizeFor(node platforms.Platform) (int64, bool) {
	p, ok := i.For(node)
	return p.Size, ok
}

// MaxSize gives the largest size over all platforms, in bytes: what to plan with while a
// node's platform is not known.
func (i Image) MaxSize() int64 {
	var most int64
	for _, p := range i.Platforms {
		most = max(most, p.Size)
	}
	return most
}

// Content gives the ImageContent object for the image, named after its digest. The zero
// Image gives an object without a name, which no API server accepts.
func (i Image) Content() *v1alpha1.ImageContent {
	c := &v1alpha1.ImageContent{Repositories: []string{i.Reference.Name()}}
	if i.Digest != "" {
		c.ObjectMeta = metav1.ObjectMeta{Name: v1alpha1.ContentName(i.Digest)}
	}
	for _, p := range i.Platforms {
		out := v1alpha1.PlatformContent{
			OS:             p.OS,
			Architecture:   p.Architecture,
			Variant:        p.Variant,
			ManifestDigest: p.Manifest.String(),
			ConfigDigest:   p.Config.String(),
			Size:           p.Size,
		}
		for _, l := range p.Layers {
			out.Layers = append(out.Layers, v1alpha1.Layer{Digest: l.Digest.String(), Size: l.Size})
		}
		c.Platforms = append(c.Platforms, out)
	}
	return c
}

// FromContent gives back the image of an ImageContent object, so that sizes can be asked
// for without a registry. Reference, MediaType and Host are not kept there and stay
// empty.
func FromContent(c *v1alpha1.ImageContent) (Image, error) {
	d := v1alpha1.ContentDigest(c.Name)
	if err := imageref.CheckDigest(d); err != nil {
		return Image{}, fmt.Errorf("reading ImageContent %q: its name: %w", c.Name, err)
	}
	if len(c.Platforms) == 0 {
		return Image{}, fmt.Errorf("reading ImageContent %q: %w", c.Name, errors.New("no platforms"))
	}
	// Where there is no index the digest is that of the only manifest.
	i := Image{Digest: d, Index: c.Platforms[0].ManifestDigest != d.String()}
	for _, p := range c.Platforms {
		out := Platform{
			OS:           p.OS,
			Architecture: p.Architecture,
			Variant:      p.Variant,
			Manifest:     digest.Digest(p.ManifestDigest),
			Config:       digest.Digest(p.ConfigDigest),
			Size:         p.Size,
		}
		for _, l := range p.Layers {
			out.Layers = append(out.Layers, Layer{Digest: digest.Digest(l.Digest), Size: l.Size})
		}
		i.Platforms = append(i.Platforms, out)
	}
	return i, nil
}
