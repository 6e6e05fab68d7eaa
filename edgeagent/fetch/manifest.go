package fetch

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// MaxDocument bounds a manifest, an index or a config, in bytes. Registries accept
	// manifests up to 4 MiB (distribution-spec).
	MaxDocument = 4 << 20
	// MaxManifests bounds the entries of an index. Indexes have one or two per platform.
	MaxManifests = 1000
	// MaxLayers bounds the layers of an image. overlayfs mounts at most 128 or so.
	MaxLayers = 256
	// maxBlob bounds one blob, in bytes, so that sums cannot overflow.
	maxBlob = 1 << 40
)

// document is a parsed manifest or index: exactly one of the two pointers is set.
type document struct {
	desc     ocispec.Descriptor
	index    *ocispec.Index
	manifest *ocispec.Manifest
}

// shape is what tells a manifest from an index.
type shape struct {
	MediaType string          `json:"mediaType"`
	Manifests json.RawMessage `json:"manifests"`
	Config    json.RawMessage `json:"config"`
	Layers    json.RawMessage `json:"layers"`
	FSLayers  json.RawMessage `json:"fsLayers"`
}

// parse reads a manifest or index whose digest has been checked. The media type is the
// one in the document itself: what a registry says in a header is not covered by the
// digest. A document that could be read as both is refused (CVE-2021-41190).
func parse(d digest.Digest, body []byte) (document, error) {
	var s shape
	if err := json.Unmarshal(body, &s); err != nil {
		return document{}, refuse("parsing %s: not a manifest: %v", d, err)
	}
	doc := document{desc: ocispec.Descriptor{MediaType: s.mediaType(), Digest: d, Size: int64(len(body))}}
	var err error
	switch {
	case given(s.FSLayers):
		err = refuse("parsing %s: a schema 1 manifest: push the image again with a current tool", d)
	case given(s.Manifests) && (given(s.Config) || given(s.Layers)):
		err = refuse("parsing %s: both an index and a manifest", d)
	case images.IsIndexType(doc.desc.MediaType) && given(s.Manifests):
		err = doc.readIndex(body)
	case images.IsManifestType(doc.desc.MediaType) && given(s.Config):
		err = doc.readManifest(body)
	default:
		err = refuse("parsing %s: neither an image manifest nor an index: media type %q", d, s.MediaType)
	}
	return doc, err
}

// mediaType gives the document's own media type. OCI documents may leave it out.
func (s *shape) mediaType() string {
	switch {
	case s.MediaType != "":
		return s.MediaType
	case given(s.Manifests):
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// given says whether a member is there and not null.
func given(member json.RawMessage) bool { return len(member) > 0 && string(member) != "null" }

func (doc *document) readIndex(body []byte) error {
	doc.index = new(ocispec.Index)
	if err := json.Unmarshal(body, doc.index); err != nil {
		return refuse("parsing index %s: %v", doc.desc.Digest, err)
	}
	if n := len(doc.index.Manifests); n > MaxManifests {
		return refuse("parsing index %s: %d entries, at most %d are allowed", doc.desc.Digest, n, MaxManifests)
	}
	return nil
}

func (doc *document) readManifest(body []byte) error {
	doc.manifest = new(ocispec.Manifest)
	if err := json.Unmarshal(body, doc.manifest); err != nil {
		return refuse("parsing manifest %s: %v", doc.desc.Digest, err)
	}
	if err := checkManifest(doc.manifest); err != nil {
		return refuse("parsing manifest %s: %v", doc.desc.Digest, err)
	}
	return nil
}

// checkManifest says whether a manifest is a container image that can be fetched.
func checkManifest(m *ocispec.Manifest) error {
	if n := len(m.Layers); n > MaxLayers {
		return fmt.Errorf("%d layers, at most %d are allowed", n, MaxLayers)
	}
	if !images.IsConfigType(m.Config.MediaType) {
		return fmt.Errorf("not a container image: config has media type %q", m.Config.MediaType)
	}
	if err := checkDescriptor(m.Config, MaxDocument); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	sizes := map[digest.Digest]int64{m.Config.Digest: m.Config.Size}
	for i, l := range m.Layers {
		if err := checkLayer(l, sizes); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return nil
}

// checkLayer checks one layer and notes its size, which must be the same wherever the
// digest is named again.
func checkLayer(l ocispec.Descriptor, sizes map[digest.Digest]int64) error {
	switch {
	case images.IsNonDistributable(l.MediaType):
		return fmt.Errorf("media type %q is not distributable: the registry does not hold it", l.MediaType)
	case !images.IsLayerType(l.MediaType):
		return fmt.Errorf("media type %q is not a layer", l.MediaType)
	}
	if err := checkDescriptor(l, maxBlob); err != nil {
		return err
	}
	if size, ok := sizes[l.Digest]; ok && size != l.Size {
		return fmt.Errorf("%s has %d bytes here and %d bytes elsewhere in the manifest", l.Digest, l.Size, size)
	}
	sizes[l.Digest] = l.Size
	return nil
}

func checkDescriptor(d ocispec.Descriptor, limit int64) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if d.Size <= 0 || d.Size > limit {
		return fmt.Errorf("%s has %d bytes, want 1 to %d", d.Digest, d.Size, limit)
	}
	return nil
}

// blobs gives config and layers of a manifest, each digest once, as bare descriptors: no
// URLs and no annotations, whatever the manifest says.
func blobs(m *ocispec.Manifest) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, d := range slices.Concat([]ocispec.Descriptor{m.Config}, m.Layers) {
		if !slices.ContainsFunc(out, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			out = append(out, bare(d))
		}
	}
	return out
}

// bare keeps what identifies content. Annotations would change the name of the ingest.
func bare(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}
