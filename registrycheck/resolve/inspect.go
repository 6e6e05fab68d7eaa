package resolve

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

// Top is what a reference names: an image, or an index of images.
type Top struct {
	Digest    digest.Digest
	MediaType string
	// Size is that of the manifest or index, in bytes.
	Size int64
	// Host is the registry or mirror that answered.
	Host string
	// Image is there when it is an image, Entries when it is an index.
	Image   *Manifest
	Entries []Entry
}

// Entry is a Linux image of an index.
type Entry struct {
	Descriptor v1.Descriptor
	// Platform is what the index says, in containerd's normal form; nil when it says
	// nothing. Runtimes take such an entry only when no stated one fits.
	Platform *platforms.Platform
}

// Manifest is the manifest of one image, as it is written.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Size      int64 // bytes of the manifest itself
	Config    v1.Descriptor
	// Layers have media type, digest, size and URLs alone.
	Layers []v1.Descriptor
}

// Config is what an image's configuration says about it.
type Config struct {
	// Platform is what its programs are built for, in containerd's normal form.
	Platform platforms.Platform
	// DiffIDs are the digests of its unpacked layers, base first.
	DiffIDs []digest.Digest
}

// Top asks what the reference names. An index is read with those in it, the images are
// not. It costs one GET, and one for each nested index. The error is an *Error.
func (r *Resolver) Top(ctx context.Context, q Query) (Top, error) {
	return lookUp(ctx, r, q, func(ctx context.Context, s *access.Session) (Top, error) {
		o, err := getManifest(ctx, s, identifier(q.Reference), q.Reference.Digest())
		if err != nil {
			return Top{}, err
		}
		doc, err := parse(o)
		if err != nil {
			return Top{}, err
		}
		top := Top{Digest: doc.digest, MediaType: string(doc.mediaType), Size: int64(len(doc.raw)), Host: s.Endpoint.Host}
		if doc.index == nil {
			top.Image, err = manifestOf(doc)
			return top, err
		}
		entries, err := flatten(ctx, s, doc.index)
		for _, e := range entries {
			top.Entries = append(top.Entries, Entry{e.desc, e.platform})
		}
		if err == nil && len(entries) == 0 {
			err = errNoLinux
		}
		return top, err
	})
}

// Child reads the manifest of an index entry. It costs one GET. The error is an *Error.
func (r *Resolver) Child(ctx context.Context, q Query, d v1.Descriptor) (*Manifest, error) {
	q.Object = access.Object{Kind: access.Manifests, ID: d.Digest.String()}
	return lookUp(ctx, r, q, func(ctx context.Context, s *access.Session) (*Manifest, error) {
		doc, err := getChild(ctx, s, d)
		if err != nil {
			return nil, err
		}
		if doc.image == nil {
			return nil, &invalidError{what: "index names an index as an image"}
		}
		return manifestOf(doc)
	})
}

// Config reads an image's configuration. It costs one GET, unless the manifest carries
// it. The error is an *Error.
func (r *Resolver) Config(ctx context.Context, q Query, d v1.Descriptor) (Config, error) {
	q.Object = access.Object{Kind: access.Blobs, ID: d.Digest.String()}
	return lookUp(ctx, r, q, func(ctx context.Context, s *access.Session) (Config, error) {
		raw, err := getConfig(ctx, s, d)
		if err != nil {
			return Config{}, err
		}
		platform, err := configPlatform(raw)
		if err != nil {
			return Config{}, err
		}
		var config struct {
			RootFS struct {
				DiffIDs []digest.Digest `json:"diff_ids"`
			} `json:"rootfs"`
		}
		if err := json.Unmarshal(raw, &config); err != nil {
			return Config{}, &invalidError{what: "image configuration names its layers in a way that is not known"}
		}
		return Config{Platform: platform, DiffIDs: config.RootFS.DiffIDs}, nil
	})
}

// SameUsers says whether two Keychains offer the same credentials for an image, at its
// mirrors too: what one is given the other is.
func (r *Resolver) SameUsers(ref imageref.Reference, a, b keychain.Keychain) bool {
	for _, at := range r.network.Endpoints(ref) {
		same := slices.EqualFunc(a.ForRepository(at.Name()), b.ForRepository(at.Name()), keychain.Credential.Equal)
		if !same {
			return false
		}
	}
	return true
}

// manifestOf takes out of a document what is needed of it, so that the rest can go.
func manifestOf(doc document) (*Manifest, error) {
	m := doc.image
	if !isImageConfig(m.Config.MediaType) {
		return nil, notAnImage(m)
	}
	if err := checkManifest(m); err != nil {
		return nil, err
	}
	out := &Manifest{Digest: doc.digest, MediaType: string(doc.mediaType), Size: int64(len(doc.raw)), Config: m.Config}
	for _, l := range m.Layers {
		out.Layers = append(out.Layers, v1.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size, URLs: l.URLs})
	}
	return out, nil
}

func notAnImage(m *v1.Manifest) error {
	return &invalidError{
		what: fmt.Sprintf("it is not a container image: its configuration is of type %q", access.Scrub(string(m.Config.MediaType))),
		kind: ErrNotImage,
	}
}
