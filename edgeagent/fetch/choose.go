package fetch

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// chooser finds the manifest for a node.
type chooser struct {
	node ocispec.Platform
	// load gives a manifest or index.
	load func(context.Context, digest.Digest) (document, error)
	// config gives the bytes of an image config.
	config func(context.Context, ocispec.Descriptor) ([]byte, error)
}

// choose gives the manifest of an image, or that of an index which fits the node best.
func (c chooser) choose(ctx context.Context, target document) (document, error) {
	if target.manifest == nil {
		return c.pick(ctx, target)
	}
	runs, is, err := c.fits(ctx, target.manifest.Config)
	if err == nil && !runs {
		err = &Error{Reason: PlatformMissing, Err: fmt.Errorf("image %s is for %s, this node is %s", target.desc.Digest, is, platforms.Format(c.node))}
	}
	return target, err
}

func (c chooser) pick(ctx context.Context, target document) (document, error) {
	for _, entry := range candidates(target.index, platforms.Only(c.node)) {
		doc, err := c.load(ctx, entry.Digest)
		if err != nil {
			return document{}, err
		}
		if doc.manifest == nil {
			return document{}, refuse("index %s names %s as a manifest, which it is not", target.desc.Digest, entry.Digest)
		}
		// Where the index names the platform that holds, as for containerd: configs of
		// some builders name the builder's platform.
		runs := entry.Platform != nil
		if !runs {
			if runs, _, err = c.fits(ctx, doc.manifest.Config); err != nil {
				return document{}, err
			}
		}
		if runs {
			return doc, nil
		}
	}
	return document{}, &Error{Reason: PlatformMissing, Err: fmt.Errorf("index %s has nothing for %s, %s",
		target.desc.Digest, platforms.Format(c.node), offered(target.index))}
}

// fits says whether the image of a config runs on the node, and for which platform it is.
func (c chooser) fits(ctx context.Context, config ocispec.Descriptor) (runs bool, is string, err error) {
	body, err := c.config(ctx, config)
	if err != nil {
		return false, "", err
	}
	if runs, is, err = runsOn(body, platforms.Only(c.node)); err != nil {
		return false, "", refuse("image config %s: %v", config.Digest, err)
	}
	return runs, is, nil
}

// Describe says what an image consists of for one platform, reading the store only. It
// changes nothing, and does not look whether config and layers are there. The error is
// one of errdefs.IsNotFound when a manifest, or a config that is needed to choose, is
// missing.
func Describe(ctx context.Context, store content.InfoReaderProvider, d digest.Digest, node ocispec.Platform) (Image, error) {
	c := chooser{
		node: node,
		load: func(ctx context.Context, d digest.Digest) (document, error) {
			body, err := read(ctx, store, d)
			if err != nil {
				return document{}, err
			}
			return parse(d, body)
		},
		config: func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) { return read(ctx, store, d.Digest) },
	}
	target, err := c.load(ctx, d)
	if err != nil {
		return Image{}, fmt.Errorf("describing image %s: %w", d, err)
	}
	manifest, err := c.choose(ctx, target)
	if err != nil {
		return Image{}, fmt.Errorf("describing image %s: %w", d, err)
	}
	return describe(target, manifest), nil
}

// Blobs gives config and layers, each blob once.
func (img Image) Blobs() []ocispec.Descriptor {
	return blobs(&ocispec.Manifest{Config: img.Config, Layers: img.Layers})
}

func describe(target, manifest document) Image {
	img := Image{Target: target.desc, Manifest: manifest.desc, Config: manifest.manifest.Config, Layers: manifest.manifest.Layers}
	img.Size = img.Manifest.Size
	for _, d := range img.Blobs() {
		img.Size += d.Size
	}
	return img
}
