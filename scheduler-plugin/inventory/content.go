package inventory

import (
	"slices"
	"time"

	"github.com/containerd/platforms"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/v1alpha1"
)

// image is one digest: who holds it and what it consists of. It is known while either is.
type image struct {
	digest  string
	size    int64 // as nodes report it, 0 unknown
	holders bits
	content *content // nil: unknown
}

// name is one canonical reference: which nodes have an image under it, and what it is wished to stand for.
type name struct {
	text    string
	digest  string // what a node last held under it
	holders bits
	lazy    bits           // of them, those where files come only when they are read
	wished  map[string]int // digest to number of nodes
}

// wishedDigest is what most nodes are asked to hold under the name; "" when nobody is.
func (n *name) wishedDigest() string {
	most, found := 0, ""
	for digest, count := range n.wished {
		if count > most || (count == most && digest < found) {
			most, found = count, digest
		}
	}
	return found
}

// content is what an ImageContent says.
type content struct {
	digest       string
	repositories []string
	created      time.Time
	variants     []variant
	byPlatform   []int // index of the variant for each platform of nodes; -1 none
}

// variant is the content of one platform.
type variant struct {
	platform imagespec.Platform
	manifest string
	layers   []sizedLayer
}

type sizedLayer struct {
	*layer
	size int64
}

// layer is one compressed layer, and the images that it is part of.
type layer struct {
	digest string
	uses   []use
}

type use struct {
	image   *image
	variant int
}

func newContent(digest string, object *v1alpha1.ImageContent, layerOf func(string) *layer) *content {
	c := &content{digest: digest, repositories: slices.Clone(object.Repositories), created: object.CreationTimestamp.Time}
	for i := range object.Platforms {
		p := &object.Platforms[i]
		v := variant{platform: imagespec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}, manifest: p.ManifestDigest}
		for _, l := range p.Layers {
			v.layers = append(v.layers, sizedLayer{layer: layerOf(l.Digest), size: l.Size})
		}
		c.variants = append(c.variants, v)
	}
	return c
}

// variantFor chooses as containerd does: what runs on the platform, the closest first.
func (c *content) variantFor(platform string) int {
	parsed, err := platforms.Parse(platform)
	if err != nil {
		return -1
	}
	matcher, found := platforms.Only(parsed), -1
	for i := range c.variants {
		p := platforms.Normalize(c.variants[i].platform)
		if matcher.Match(p) && (found < 0 || matcher.Less(p, platforms.Normalize(c.variants[found].platform))) {
			found = i
		}
	}
	return found
}

// variantOn gives the content for the platform with that index, nil where there is none.
func (c *content) variantOn(platform int) *variant {
	if i := c.byPlatform[platform]; i >= 0 {
		return &c.variants[i]
	}
	return nil
}
