package resolve

import (
	"errors"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

func TestParseMediaTypes(t *testing.T) {
	t.Parallel()
	const (
		imageBody = `{"schemaVersion":2,"config":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]`
		indexBody = `{"schemaVersion":2,"manifests":[]`
	)
	with := func(body string, mt types.MediaType) string { return body + `,"mediaType":"` + string(mt) + `"}` }
	tests := map[string]struct {
		header string
		body   string
		want   types.MediaType
		index  bool
		fails  string
	}{
		"OCI image":                        {"application/vnd.oci.image.manifest.v1+json", imageBody + "}", types.OCIManifestSchema1, false, ""},
		"OCI index":                        {"application/vnd.oci.image.index.v1+json", indexBody + "}", types.OCIImageIndex, true, ""},
		"docker image":                     {string(types.DockerManifestSchema2), with(imageBody, types.DockerManifestSchema2), types.DockerManifestSchema2, false, ""},
		"docker list":                      {string(types.DockerManifestList), with(indexBody, types.DockerManifestList), types.DockerManifestList, true, ""},
		"parameters":                       {"application/vnd.oci.image.manifest.v1+json; charset=utf-8", imageBody + "}", types.OCIManifestSchema1, false, ""},
		"static server, type in the body":  {"text/plain", with(imageBody, types.DockerManifestSchema2), types.DockerManifestSchema2, false, ""},
		"static server, no type: image":    {"application/octet-stream", imageBody + "}", types.OCIManifestSchema1, false, ""},
		"static server, no type: index":    {"", indexBody + "}", types.OCIImageIndex, true, ""},
		"malformed header":                 {";;", with(indexBody, types.DockerManifestList), types.DockerManifestList, true, ""},
		"header says image, body index":    {string(types.OCIManifestSchema1), with(indexBody, types.OCIImageIndex), "", false, "does not fit"},
		"header says index, body image":    {string(types.OCIImageIndex), with(imageBody, types.OCIManifestSchema1), "", false, "does not fit"},
		"a type that is neither":           {"text/plain", with(imageBody, "application/vnd.example"), "", false, `"application/vnd.example" does not fit`},
		"schema 1 without the header":      {"", `{"schemaVersion":1,"history":[]}`, "", false, "schema 1"},
		"layers alone are an image":        {"", `{"schemaVersion":2,"layers":[]}`, types.OCIManifestSchema1, false, ""},
		"null is nothing":                  {"", `null`, "", false, "neither clearly"},
		"list":                             {string(types.OCIImageIndex), `[]`, "", false, "not JSON"},
		"entry with a malformed digest":    {"", `{"manifests":[{"digest":"sha256:x"}]}`, "", false, "malformed"},
		"manifests are not a list":         {"", `{"manifests":"x"}`, "", false, "malformed"},
		"text after the document is there": {string(types.OCIImageIndex), indexBody + "} garbage", "", false, "not JSON"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, err := parse(object{mediaType: mediaTypeOf(tc.header), raw: []byte(tc.body)})
			if tc.fails != "" {
				if _, ok := errors.AsType[*invalidError](err); !ok || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("error = %v, want one containing %q", err, tc.fails)
				}
				return
			}
			if err != nil || doc.mediaType != tc.want || (doc.index != nil) != tc.index || (doc.image == nil) != tc.index {
				t.Errorf("parse = %s, index %v, %v", doc.mediaType, doc.index != nil, err)
			}
		})
	}
}

func TestConfigPlatform(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ body, want, fails string }{
		"all":            {`{"os":"linux","architecture":"arm","variant":"v6"}`, "linux/arm/v6", ""},
		"other spelling": {`{"os":"Linux","architecture":"x86_64"}`, "linux/amd64", ""},
		"nothing":        {`{}`, "linux", ""},
		"windows":        {`{"os":"windows","architecture":"amd64","os.version":"10.0"}`, "windows/amd64", ""},
		"not JSON":       {`os: linux`, "", "not JSON"},
		"too long":       {`{"os":"linux","architecture":"` + strings.Repeat("a", 33) + `"}`, "", "longer than any"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := configPlatform([]byte(tc.body))
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("error = %v, want one containing %q", err, tc.fails)
				}
				return
			}
			if got := (Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}).String(); err != nil || got != tc.want {
				t.Errorf("configPlatform = %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

// FuzzParse: whatever a registry sends, nothing panics, and what is accepted is within
// the limits of an ImageContent once checked.
func FuzzParse(f *testing.F) {
	f.Add("application/vnd.oci.image.manifest.v1+json", []byte(`{"schemaVersion":2,"config":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":9}]}`))
	f.Add("application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"platform":{"os":"linux","architecture":"arm","variant":"8"}}]}`))
	f.Add("", []byte(`{"manifests":null,"layers":null,"config":null}`))
	f.Add("text/plain", []byte(`{"fsLayers":[],"schemaVersion":1}`))
	f.Add(";", []byte(`{"os":"linux","architecture":"amd64"}`))
	f.Fuzz(func(t *testing.T, header string, raw []byte) {
		if p, err := configPlatform(raw); err == nil && (p.OS == "" || len(p.OS) > maxPlatformWord) {
			t.Errorf("platform %+v", p)
		}
		doc, err := parse(object{mediaType: mediaTypeOf(header), digest: digest.FromBytes(raw), raw: raw})
		if err != nil {
			return
		}
		if (doc.index == nil) == (doc.image == nil) || doc.mediaType.IsIndex() != (doc.index != nil) {
			t.Fatalf("index %v, image %v of type %q", doc.index != nil, doc.image != nil, doc.mediaType)
		}
		if doc.index != nil {
			checkLeaves(t, doc.index)
			return
		}
		if checkManifest(doc.image) != nil {
			return
		}
		p := describe(doc, node(t, "linux/amd64"))
		if p.Size < int64(len(raw)) || len(p.Layers) > MaxLayers {
			t.Errorf("size %d of %d bytes, %d layers", p.Size, len(raw), len(p.Layers))
		}
		for _, l := range p.Layers {
			if l.Digest.Validate() != nil || len(l.Digest) != 71 || l.Size < 0 {
				t.Errorf("layer %+v", l)
			}
		}
	})
}

func checkLeaves(t *testing.T, index *v1.IndexManifest) {
	t.Helper()
	images, nested := leaves(index)
	if len(images)+len(nested) > len(index.Manifests) {
		t.Errorf("%d images and %d indexes of %d entries", len(images), len(nested), len(index.Manifests))
	}
	for _, l := range images {
		if l.platform != nil && (len(l.platform.Variant) > maxPlatformWord || l.platform.OS != "linux" || l.platform.Architecture == "unknown") {
			t.Errorf("platform %+v", *l.platform)
		}
	}
}
