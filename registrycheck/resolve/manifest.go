package resolve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/registrycheck/access"
)

// attestation is the annotation with which BuildKit marks entries of an index that
// describe other entries.
const attestation = "vnd.docker.reference.type"

// object is a manifest or index as it came, with the digest of its bytes.
type object struct {
	mediaType types.MediaType // as the server or the index said, without parameters
	digest    digest.Digest
	raw       []byte
}

// document is a parsed object: exactly one of index and image is set.
type document struct {
	object
	index *v1.IndexManifest
	image *v1.Manifest
}

// parse reads an object and refuses what could be read as image and as index: two
// programs could then see two images under one digest (CVE-2021-41190).
func parse(o object) (document, error) {
	var shape struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     types.MediaType  `json:"mediaType"`
		Manifests     json.RawMessage  `json:"manifests"`
		Config        json.RawMessage  `json:"config"`
		Layers        json.RawMessage  `json:"layers"`
		FSLayers      *json.RawMessage `json:"fsLayers"`
	}
	announced := o.mediaType.IsImage() || o.mediaType.IsIndex()
	if err := json.Unmarshal(o.raw, &shape); err != nil && !announced {
		return document{}, &strangeError{o.mediaType}
	} else if err != nil {
		return document{}, &invalidError{what: "manifest is not JSON"}
	}
	if !announced {
		o.mediaType = shape.MediaType // static servers send text/plain and the like
	}
	if shape.FSLayers != nil || shape.SchemaVersion == 1 {
		return document{}, &invalidError{what: "manifest is of Docker schema 1, which runtimes no longer pull: build and push it again", kind: ErrSchema1}
	}
	isIndex := shape.Manifests != nil
	if isIndex == (shape.Config != nil || shape.Layers != nil) {
		return document{}, &invalidError{what: "manifest is neither clearly an image nor clearly an index"}
	}
	doc := document{object: o}
	switch {
	case o.mediaType == "" && isIndex:
		doc.mediaType = types.OCIImageIndex // the field is optional in OCI objects
	case o.mediaType == "":
		doc.mediaType = types.OCIManifestSchema1
	case isIndex != o.mediaType.IsIndex() || isIndex == o.mediaType.IsImage():
		return document{}, &invalidError{what: fmt.Sprintf("media type %q does not fit the manifest's content", access.Scrub(string(o.mediaType)))}
	}
	return doc, doc.decode(isIndex)
}

func (d *document) decode(isIndex bool) error {
	var err error
	if isIndex {
		d.index, err = v1.ParseIndexManifest(bytes.NewReader(d.raw))
	} else {
		d.image, err = v1.ParseManifest(bytes.NewReader(d.raw))
	}
	if err != nil {
		return &invalidError{what: "manifest is malformed: " + access.Scrub(err.Error())}
	}
	return nil
}

// mediaTypeOf reads a Content-Type.
func mediaTypeOf(header string) types.MediaType {
	mt, _, err := mime.ParseMediaType(header)
	if err != nil {
		return ""
	}
	return types.MediaType(mt)
}

// isImageConfig says whether a manifest with such a configuration is a container image;
// charts, signatures and other artifacts have other ones. Docker 1.10 wrote
// application/octet-stream, and containerd still pulls such images.
func isImageConfig(mt types.MediaType) bool {
	return mt == types.OCIConfigJSON || mt == types.DockerConfigJSON || mt == "application/octet-stream"
}

// leaf is an entry of an index that may be a Linux image.
type leaf struct {
	desc v1.Descriptor
	// platform is what the index says, nil when it says nothing.
	platform *platforms.Platform
}

// leaves sorts the entries of an index into images to look at and indexes to follow, in
// the order in which they stand there.
func leaves(index *v1.IndexManifest) (images []leaf, nested []v1.Descriptor) {
	for _, d := range index.Manifests {
		if _, is := d.Annotations[attestation]; is {
			continue
		}
		platform, linux := linuxPlatform(d.Platform)
		switch {
		case !linux:
		case d.MediaType.IsIndex():
			nested = append(nested, d)
		case d.MediaType.IsImage():
			images = append(images, leaf{desc: d, platform: platform})
		}
	}
	return images, nested
}

// linuxPlatform normalises the platform of an index entry; nil and true where it says
// none. unknown/unknown is how entries that are not images are hidden from runtimes.
func linuxPlatform(p *v1.Platform) (*platforms.Platform, bool) {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return nil, true
	}
	if max(len(p.OS), len(p.Architecture), len(p.Variant)) > maxPlatformWord {
		return nil, false // no node calls itself that, and no ImageContent could hold it
	}
	n := platforms.Normalize(platforms.Platform{OS: osOf(p.OS), Architecture: p.Architecture, Variant: p.Variant})
	return &n, n.OS == "linux" && n.Architecture != "unknown"
}

// osOf fills in the operating system that images without one are for. platforms.
// Normalize would take that of the machine on which this runs.
func osOf(s string) string {
	if s == "" {
		return "linux"
	}
	return s
}

// configPlatform reads the platform out of an image configuration. Only in an image that
// is no index may the architecture be empty: nobody compares it.
func configPlatform(raw []byte) (platforms.Platform, error) {
	var config struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return platforms.Platform{}, &invalidError{what: "image configuration is not JSON"}
	}
	if max(len(config.OS), len(config.Architecture), len(config.Variant)) > maxPlatformWord {
		return platforms.Platform{}, &invalidError{what: "image configuration names a platform longer than any"}
	}
	p := platforms.Platform{OS: osOf(config.OS), Architecture: config.Architecture, Variant: config.Variant}
	return platforms.Normalize(p), nil
}

// maxPlatformWord is the longest os, architecture or variant of an ImageContent, bytes.
const maxPlatformWord = 32

// describe gives a platform's part of the image from its manifest.
func describe(doc document, p platforms.Platform) Platform {
	m := doc.image
	out := Platform{
		OS:           p.OS,
		Architecture: p.Architecture,
		Variant:      p.Variant,
		Manifest:     doc.digest,
		Config:       digestOf(m.Config),
		Size:         int64(len(doc.raw)) + m.Config.Size,
	}
	seen := map[digest.Digest]bool{}
	for _, l := range m.Layers {
		d := digestOf(l)
		out.Layers = append(out.Layers, Layer{Digest: d, Size: l.Size})
		if !seen[d] {
			seen[d] = true
			out.Size += l.Size
		}
	}
	return out
}

// checkManifest refuses what an ImageContent cannot hold or no runtime would pull.
func checkManifest(m *v1.Manifest) error {
	if len(m.Layers) > MaxLayers {
		return &invalidError{what: fmt.Sprintf("image has %d layers, at most %d are supported", len(m.Layers), MaxLayers)}
	}
	if m.Config.Size > access.MaxBodyBytes {
		return &invalidError{what: fmt.Sprintf("image configuration has %d bytes, at most %d are supported", m.Config.Size, access.MaxBodyBytes), kind: ErrTooLarge}
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(d); err != nil {
			return err
		}
	}
	return nil
}

func checkDescriptor(d v1.Descriptor) error {
	if d.Digest == (v1.Hash{}) {
		return &invalidError{what: "manifest names a part without its digest"}
	}
	if d.Digest.Algorithm != "sha256" {
		return &invalidError{what: fmt.Sprintf("image uses %s digests, only sha256 is supported", strings.ToLower(access.Scrub(d.Digest.Algorithm)))}
	}
	if d.Size < 0 || d.Size > maxBlobSize {
		return &invalidError{what: fmt.Sprintf("image claims a part of %d bytes", d.Size)}
	}
	return nil
}

func digestOf(d v1.Descriptor) digest.Digest { return digest.Digest(d.Digest.String()) }

// invalidError says that the registry holds something under the reference that cannot
// be pulled, whoever asks and however often.
type invalidError struct {
	what string
	kind error // one of those below, or nil
}

func (e *invalidError) Error() string { return e.what }
func (e *invalidError) Unwrap() error { return e.kind }

// Kinds of images that are invalid, for errors.Is; most are of none.
var (
	ErrNotImage = errors.New("not a container image")
	ErrSchema1  = errors.New("Docker schema 1") //nolint:staticcheck // a name
	ErrTooLarge = errors.New("beyond what runtimes read")
)

// Invalid makes an error of a question: the image cannot be pulled, whoever asks.
func Invalid(what string) error { return &invalidError{what: what} }

// Mismatch makes an error of a question: bytes are not those that were asked for.
func Mismatch(what, got, want string) error { return &mismatchError{what, got, want} }

// strangeError says that something else than a registry answered, such as the log-in
// page of a network.
type strangeError struct{ mediaType types.MediaType }

func (e *strangeError) Error() string {
	return fmt.Sprintf("answer of type %q is no manifest", access.Scrub(string(e.mediaType)))
}

// mismatchError says that bytes are not those that were asked for.
type mismatchError struct {
	what      string // "manifest", "image configuration"
	got, want string
}

func (e *mismatchError) Error() string {
	return fmt.Sprintf("%s: got %s, want %s", e.what, e.got, e.want)
}

// errNoLinux says that an image has no platform for Linux nodes.
var errNoLinux = errors.New("image has no Linux platform")
