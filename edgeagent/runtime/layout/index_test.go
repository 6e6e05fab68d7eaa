package layout

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
)

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func descriptor(s string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(s), Size: int64(len(s))}
}

// entry is an entry with annotations, given as key, value, key, value…
func entry(s string, annotations ...string) ocispec.Descriptor {
	d := descriptor(s)
	d.Annotations = map[string]string{}
	for i := 0; i < len(annotations); i += 2 {
		d.Annotations[annotations[i]] = annotations[i+1]
	}
	return d
}

const (
	refName = ocispec.AnnotationRefName
	ctrName = "io.containerd.image.name"
)

func TestNameOf(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		entry ocispec.Descriptor
		want  string
	}{
		"full":                       {entry("a", refName, "r.example/app:v1"), "r.example/app:v1"},
		"by digest":                  {entry("a", refName, "r.example/app@"+digest.FromString("a").String()), "r.example/app@" + digest.FromString("a").String()},
		"exported by containerd":     {entry("a", ctrName, "r.example/app:v1", refName, "v1"), "r.example/app:v1"},
		"only a tag":                 {entry("a", refName, "v1"), ""},
		"not canonical":              {entry("a", refName, "nginx:latest"), ""},
		"nothing":                    {descriptor("a"), ""},
		"nonsense beside a full one": {entry("a", ctrName, "!", refName, "r.example/app:v1"), "r.example/app:v1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := nameOf(tc.entry)
			if got.String() != tc.want || ok != (tc.want != "") {
				t.Errorf("nameOf = %q, %v, want %q", got, ok, tc.want)
			}
		})
	}
}

func TestSetName(t *testing.T) {
	t.Parallel()
	name := ref(t, "r.example/app:v1")
	ours := func(s string, pin bool) ocispec.Descriptor {
		d := entry(s, refName, name.String(), annotationManaged, yes)
		if pin {
			d.Annotations[annotationPinned] = yes
		}
		return d
	}
	other := entry("o", refName, "r.example/app:v2")
	tests := map[string]struct {
		before  []ocispec.Descriptor
		pin     bool
		after   []ocispec.Descriptor
		changed bool
	}{
		"new":              {[]ocispec.Descriptor{other}, true, []ocispec.Descriptor{other, ours("a", true)}, true},
		"as it is":         {[]ocispec.Descriptor{ours("a", true), other}, true, []ocispec.Descriptor{ours("a", true), other}, false},
		"moved":            {[]ocispec.Descriptor{ours("b", true), other}, true, []ocispec.Descriptor{other, ours("a", true)}, true},
		"unpinned":         {[]ocispec.Descriptor{ours("a", true)}, false, []ocispec.Descriptor{ours("a", false)}, true},
		"taken over":       {[]ocispec.Descriptor{entry("a", ctrName, name.String())}, false, []ocispec.Descriptor{ours("a", false)}, true},
		"there twice":      {[]ocispec.Descriptor{entry("b", refName, name.String()), entry("c", ctrName, name.String())}, false, []ocispec.Descriptor{ours("a", false)}, true},
		"of another size":  {[]ocispec.Descriptor{{Digest: descriptor("a").Digest, Size: 9, Annotations: ours("a", false).Annotations}}, false, []ocispec.Descriptor{ours("a", false)}, true},
		"without any name": {[]ocispec.Descriptor{descriptor("a")}, false, []ocispec.Descriptor{descriptor("a"), ours("a", false)}, true},
	}
	for what, tc := range tests {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			idx := &ocispec.Index{Manifests: tc.before}
			if changed := setName(idx, name, descriptor("a"), tc.pin); changed != tc.changed {
				t.Errorf("changed = %v, want %v", changed, tc.changed)
			}
			if diff := cmp.Diff(tc.after, idx.Manifests); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDropAndReleaseName(t *testing.T) {
	t.Parallel()
	name := ref(t, "r.example/app:v1")
	mine := entry("a", refName, name.String(), annotationManaged, yes, annotationPinned, yes, "other", "x")
	other := entry("a", refName, "r.example/app:v2", annotationManaged, yes)
	idx := &ocispec.Index{Manifests: []ocispec.Descriptor{mine, other}}
	released := map[string]string{annotationManaged: "", annotationPinned: ""}
	if !annotate(idx, name, released) || annotate(idx, name, released) {
		t.Error("releasing changes something the first time only")
	}
	if diff := cmp.Diff([]ocispec.Descriptor{entry("a", refName, name.String(), "other", "x"), other}, idx.Manifests); diff != "" {
		t.Errorf("released (-want +got):\n%s", diff)
	}
	if dropped := dropName(idx, name); len(dropped) != 1 || len(dropName(idx, name)) != 0 {
		t.Errorf("dropped %v, want one entry, once", dropped)
	}
	if diff := cmp.Diff([]ocispec.Descriptor{other}, idx.Manifests); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}
