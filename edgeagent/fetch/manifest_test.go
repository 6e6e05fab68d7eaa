package fetch

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// of gives the digest of a text, and by that a name for made-up content.
func of(s string) digest.Digest { return digest.FromString(s) }

func layer(name string, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: of(name), Size: size}
}

func imageManifest(layers ...ocispec.Descriptor) ocispec.Manifest {
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: of("config"), Size: 10},
		Layers:    layers,
	}
	m.SchemaVersion = 2
	return m
}

func encode(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestParseTellsManifestsFromIndexes(t *testing.T) {
	t.Parallel()
	bareManifest := imageManifest(layer("a", 1))
	bareManifest.MediaType = ""
	docker := imageManifest(ocispec.Descriptor{MediaType: images.MediaTypeDockerSchema2LayerGzip, Digest: of("a"), Size: 1})
	docker.MediaType, docker.Config.MediaType = images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2Config
	tests := map[string]struct {
		in        any
		mediaType string
		index     bool
	}{
		"oci manifest":            {imageManifest(), ocispec.MediaTypeImageManifest, false},
		"oci manifest, bare":      {bareManifest, ocispec.MediaTypeImageManifest, false},
		"docker manifest":         {docker, images.MediaTypeDockerSchema2Manifest, false},
		"oci index":               {ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}, ocispec.MediaTypeImageIndex, true},
		"oci index, bare":         {ocispec.Index{Manifests: []ocispec.Descriptor{}}, ocispec.MediaTypeImageIndex, true},
		"docker list":             {ocispec.Index{MediaType: images.MediaTypeDockerSchema2ManifestList, Manifests: []ocispec.Descriptor{}}, images.MediaTypeDockerSchema2ManifestList, true},
		"unknown fields are fine": {map[string]any{"config": imageManifest().Config, "layers": []any{}, "new": 1}, ocispec.MediaTypeImageManifest, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := encode(t, tc.in)
			d := digest.FromBytes(body)
			doc, err := parse(d, body)
			if err != nil {
				t.Fatal(err)
			}
			want := ocispec.Descriptor{MediaType: tc.mediaType, Digest: d, Size: int64(len(body))}
			if diff := cmp.Diff(want, doc.desc); diff != "" {
				t.Errorf("descriptor (-want +got):\n%s", diff)
			}
			if (doc.index != nil) != tc.index || (doc.manifest != nil) == tc.index {
				t.Errorf("index %v, manifest %v, want an index: %v", doc.index, doc.manifest, tc.index)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	withConfig := func(mediaType string, size int64) ocispec.Manifest {
		m := imageManifest()
		m.Config.MediaType, m.Config.Size = mediaType, size
		return m
	}
	foreign := layer("a", 1)
	foreign.MediaType = images.MediaTypeDockerSchema2LayerForeignGzip
	badDigest := layer("a", 1)
	badDigest.Digest = "sha256:12"
	text := layer("a", 1)
	text.MediaType = "text/plain"
	many := make([]ocispec.Descriptor, MaxLayers+1)
	for i := range many {
		many[i] = layer(strconv.Itoa(i), 1)
	}
	tests := map[string]struct {
		in   any
		want string
	}{
		"no json":                  {json.RawMessage(`<html>`), "not a manifest"},
		"something else":           {json.RawMessage(`{}`), "neither an image manifest nor an index"},
		"an unknown media type":    {map[string]any{"mediaType": "application/x", "config": 1}, `media type "application/x"`},
		"both":                     {map[string]any{"manifests": []any{}, "layers": []any{}}, "both an index and a manifest"},
		"the other's media type":   {map[string]any{"mediaType": ocispec.MediaTypeImageIndex, "config": map[string]any{}}, "neither"},
		"schema 1":                 {map[string]any{"schemaVersion": 1, "fsLayers": []any{}}, "schema 1"},
		"wrong types":              {map[string]any{"config": "x"}, "parsing manifest"},
		"a wrong index":            {map[string]any{"manifests": "x"}, "parsing index"},
		"a chart":                  {withConfig("application/vnd.cncf.helm.config.v1+json", 10), "not a container image"},
		"a huge config":            {withConfig(ocispec.MediaTypeImageConfig, MaxDocument+1), "config: sha256:"},
		"an empty layer":           {imageManifest(layer("a", 0)), "layer 0: " + of("a").String() + " has 0 bytes"},
		"a negative layer":         {imageManifest(layer("a", 1), layer("b", -1)), "layer 1:"},
		"a huge layer":             {imageManifest(layer("a", maxBlob+1)), "bytes, want 1 to"},
		"a foreign layer":          {imageManifest(foreign), "not distributable"},
		"a layer that is none":     {imageManifest(text), `"text/plain" is not a layer`},
		"a bad digest":             {imageManifest(badDigest), `digest "sha256:12"`},
		"one digest of two sizes":  {imageManifest(layer("a", 1), layer("a", 2)), "2 bytes here and 1 bytes elsewhere"},
		"too many layers":          {imageManifest(many...), "257 layers, at most 256"},
		"too many index entries":   {ocispec.Index{Manifests: make([]ocispec.Descriptor, MaxManifests+1)}, "1001 entries, at most 1000"},
		"null manifests and types": {json.RawMessage(`{"manifests":null,"mediaType":"` + ocispec.MediaTypeImageIndex + `","config":null}`), "neither"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, ok := tc.in.(json.RawMessage)
			if !ok {
				body = encode(t, tc.in)
			}
			_, err := parse(digest.FromBytes(body), body)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want one containing %q", err, tc.want)
			}
			if err != nil && Transient(err) {
				t.Errorf("%v is transient, want permanent", err)
			}
		})
	}
}

func TestBlobsAreBareAndOnce(t *testing.T) {
	t.Parallel()
	l := layer("a", 1)
	l.URLs, l.Annotations, l.Data = []string{"http://elsewhere.example"}, map[string]string{ocispec.AnnotationRefName: "x"}, []byte("a")
	m := imageManifest(l, layer("b", 2), l)
	want := []ocispec.Descriptor{bare(m.Config), layer("a", 1), layer("b", 2)}
	if diff := cmp.Diff(want, blobs(&m)); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
}

// FuzzParse looks for documents that crash, or that pass with what must not pass.
func FuzzParse(f *testing.F) {
	f.Add(encode(f, imageManifest(layer("a", 1))))
	f.Add(encode(f, ocispec.Index{Manifests: []ocispec.Descriptor{layer("a", 1)}}))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:","size":-1,"platform":{"os":"linux","architecture":"arm"}}]}`))
	f.Add([]byte(`{"config":{"digest":"sha512:ff"},"layers":null}`))
	node := only(f, "linux/arm64")
	f.Fuzz(func(t *testing.T, body []byte) {
		doc, err := parse(digest.FromBytes(body), body)
		if err != nil {
			return
		}
		if (doc.index == nil) == (doc.manifest == nil) {
			t.Fatal("want either an index or a manifest")
		}
		if doc.index != nil {
			for _, c := range candidates(doc.index, node) {
				if c.Digest.Validate() != nil || c.Size <= 0 || c.Size > MaxDocument {
					t.Errorf("candidate %+v", c)
				}
			}
			offered(doc.index)
			return
		}
		sum := int64(0)
		for _, b := range blobs(doc.manifest) {
			if sum += b.Size; b.Digest.Validate() != nil || b.Size <= 0 || sum <= 0 || b.URLs != nil {
				t.Errorf("blob %+v", b)
			}
		}
	})
}
