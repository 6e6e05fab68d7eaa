package cri

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
)

var (
	one = digest.FromString("one")
	two = digest.FromString("two")
)

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRead(t *testing.T) {
	t.Parallel()
	got := read(&api.Image{
		Id: one.Encoded(), Size: 7, Pinned: true,
		RepoTags:    []string{"r.example/app:v1", "<none>:<none>", "busybox:latest"},
		RepoDigests: []string{"r.example/app@" + two.String(), "<none>@<none>", "r.example/app:v1"},
	})
	want := image{id: one.String(), raw: one.Encoded(), size: 7, pinned: true, names: []imageref.Reference{
		ref(t, "r.example/app:v1"), ref(t, "busybox"), ref(t, "r.example/app@"+two.String()),
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(image{}, imageref.Reference{})); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
}

// TestReadOfADigest: Docker on containerd's image store has the index as the ID, and lists
// the names by digest of one repository only.
func TestReadOfADigest(t *testing.T) {
	t.Parallel()
	got := read(&api.Image{
		Id: one.String(), RepoTags: []string{"r.example/app:v1", "r.example/other:v1"},
		RepoDigests: []string{"r.example/other@" + one.String()},
	})
	for _, name := range []string{"r.example/app:v1", "r.example/other:v1"} {
		if !got.is(ref(t, name), one) || got.digestOf(ref(t, name)) != one {
			t.Errorf("%s is not %s: %+v", name, one, got)
		}
	}
}

func TestHangsOn(t *testing.T) {
	t.Parallel()
	v1, v2 := ref(t, "r.example/app:v1"), ref(t, "r.example/app:v2")
	by := v1.WithDigest(one)
	for _, tc := range []struct {
		name   imageref.Reference
		others []imageref.Reference
		want   bool
	}{
		{v1, []imageref.Reference{v2, by}, false},
		{v1, []imageref.Reference{by}, true},
		{by, []imageref.Reference{v1.WithDigest(two)}, false},
	} {
		if got := (image{}).hangsOn(tc.name, tc.others); got != tc.want {
			t.Errorf("removing %s takes %v along: %v, want %v", tc.name, tc.others, got, tc.want)
		}
	}
}

func TestNormaliseID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		one.Encoded(): one.String(), one.String(): one.String(), "": "", "short": "short",
	} {
		if got := normaliseID(in); got != want {
			t.Errorf("normaliseID(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDigestOf(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		names []string
		name  string
		want  digest.Digest
	}{
		"one digest":              {[]string{"r.example/app:v1", "r.example/app@" + one.String()}, "r.example/app:v1", one},
		"by digest":               {nil, "r.example/app@" + two.String(), two},
		"several: no telling":     {[]string{"r.example/app@" + one.String(), "r.example/app@" + two.String()}, "r.example/app:v1", ""},
		"of another repository":   {[]string{"r.example/other@" + one.String()}, "r.example/app:v1", ""},
		"loaded without registry": {[]string{"r.example/app:v1"}, "r.example/app:v1", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var img image
			for _, n := range tc.names {
				img.names = append(img.names, ref(t, n))
			}
			if got := img.digestOf(ref(t, tc.name)); got != tc.want {
				t.Errorf("digestOf = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestIs(t *testing.T) {
	t.Parallel()
	tag, byOne := ref(t, "r.example/app:v1"), ref(t, "r.example/app@"+one.String())
	img := image{names: []imageref.Reference{tag, byOne}}
	tests := []struct {
		name imageref.Reference
		d    digest.Digest
		want bool
	}{
		{tag, one, true}, {byOne, one, true}, {tag, two, false}, {ref(t, "r.example/app:v2"), one, false}, {ref(t, "other:v1"), one, false},
	}
	for _, tc := range tests {
		if got := img.is(tc.name, tc.d); got != tc.want {
			t.Errorf("is(%s, %s) = %v, want %v", tc.name, tc.d, got, tc.want)
		}
	}
}

func TestIDsOf(t *testing.T) {
	t.Parallel()
	all := []image{{id: one.String(), names: []imageref.Reference{ref(t, "app:v1")}}, {id: two.String(), names: []imageref.Reference{ref(t, "app:v1"), ref(t, "app:v2")}}}
	for in, want := range map[string][]string{
		one.String(): {one.String()}, two.Encoded(): {two.String()}, "app:v2": {two.String()},
		"app:v1": {one.String(), two.String()}, "app:v3": nil, "": nil,
	} {
		if got := idsOf(in, all); !slices.Equal(got, want) {
			t.Errorf("idsOf(%q) = %v, want %v", in, got, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		runtime      string
		leases, pins bool
		want         []runtime.Capability
	}{
		"containerd":          {"containerd", true, false, []runtime.Capability{runtime.CanResume}},
		"docker":              {"docker", false, false, nil},
		"cri-o":               {"cri-o", false, false, []runtime.Capability{runtime.CanUntag}},
		"cri-o with a folder": {"cri-o", false, true, []runtime.Capability{runtime.CanPin, runtime.CanUntag}},
	}
	for name, tc := range tests {
		if diff := cmp.Diff(tc.want, capabilities(tc.runtime, tc.leases, tc.pins)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
