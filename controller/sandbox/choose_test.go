package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

var d1, d2 = digestOf('1'), digestOf('2')

func digestOf(c byte) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(string(c), 64)) }

// reports gives the objects of nodes whose agents report images.
func reports(images ...string) []*v1alpha1.NodeImageCache {
	var out []*v1alpha1.NodeImageCache
	for i, image := range images {
		o := &v1alpha1.NodeImageCache{}
		o.Namespace, o.Name = v1alpha1.SystemNamespace, fmt.Sprintf("n%02d", i)
		o.Status.Runtime.SandboxImage = image
		out = append(out, o)
	}
	return out
}

func names(refs []imageref.Reference) []string {
	var out []string
	for _, r := range refs {
		out = append(out, r.Tag())
	}
	return out
}

func TestChoose(t *testing.T) {
	t.Parallel()
	nine := []string{"p:1", "p:1", "p:2", "p:2", "p:3", "p:4", "p:5", "p:6", "p:7", "p:8", "p:9"}
	tests := map[string]struct {
		reports  []string
		counting []string // tags
		allowed  int
		want     []string
		waits    bool
	}{
		"nobody reports":       {reports: []string{"", ""}, allowed: 8},
		"nonsense is none":     {reports: []string{"no image", "p:1"}, allowed: 8, want: []string{"1"}},
		"spellings are one":    {reports: []string{"p:1", "docker.io/library/p:1"}, allowed: 1, want: []string{"1"}},
		"most nodes first":     {reports: []string{"p:1", "p:2", "p:2"}, allowed: 8, want: []string{"2", "1"}},
		"eight at most":        {reports: nine, allowed: 9, want: []string{"1", "2", "3", "4", "5", "6", "7", "8"}},
		"those that count do":  {reports: nine, counting: []string{"9"}, allowed: 9, want: []string{"1", "2", "9", "3", "4", "5", "6", "7"}},
		"but more nodes win":   {reports: []string{"p:1", "p:2", "p:2"}, counting: []string{"1"}, allowed: 1, want: []string{"2", "1"}},
		"new ones wait":        {reports: []string{"p:1", "p:2", "p:3"}, counting: []string{"3"}, allowed: 1, want: []string{"3", "1"}, waits: true},
		"none new, no waiting": {reports: []string{"p:1"}, counting: []string{"1"}, want: []string{"1"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			counting := func(r imageref.Reference) bool { return slices.Contains(tc.counting, r.Tag()) }
			allowed := func() bool { tc.allowed--; return tc.allowed >= 0 }
			got, waits := choose(rank(reports(tc.reports...), counting), counting, allowed)
			if diff := cmp.Diff(tc.want, names(got), cmpopts.EquateEmpty()); diff != "" || waits != tc.waits {
				t.Errorf("waits %v, want %v; chosen (-want +got):\n%s", waits, tc.waits, diff)
			}
		})
	}
}

func image(name string, d digest.Digest, owners ...string) v1alpha1.NodeImage {
	return v1alpha1.NodeImage{Name: name, Digest: d.String(), Owners: owners}
}

func TestWritten(t *testing.T) {
	t.Parallel()
	const pause = "docker.io/library/p:1"
	ref, err := imageref.Parse(pause)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		specs []v1alpha1.NodeImage
		want  digest.Digest
	}{
		"in no spec":                {},
		"for the runtime":           {specs: []v1alpha1.NodeImage{image(pause, d1, "ns/a", v1alpha1.OwnerSandboxImage)}, want: d1},
		"for an ImageCache":         {specs: []v1alpha1.NodeImage{image(pause, d1, "ns/a")}},
		"another image":             {specs: []v1alpha1.NodeImage{image("docker.io/library/p:2", d1, v1alpha1.OwnerSandboxImage)}},
		"caught between two writes": {specs: []v1alpha1.NodeImage{image(pause, d1, v1alpha1.OwnerSandboxImage), image(pause, d2, v1alpha1.OwnerSandboxImage), image(pause, d2, v1alpha1.OwnerSandboxImage)}, want: d2},
	}
	for name, tc := range tests {
		objects := reports(make([]string, len(tc.specs))...)
		for i := range tc.specs {
			objects[i].Spec.Images = tc.specs[i : i+1]
		}
		if got := written(objects, ref); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestDiffers(t *testing.T) {
	t.Parallel()
	const pause, old = "docker.io/library/p:2", "docker.io/library/p:1"
	ref, err := imageref.Parse(pause)
	if err != nil {
		t.Fatal(err)
	}
	ours := func(name string, d digest.Digest) v1alpha1.NodeImage {
		return image(name, d, v1alpha1.OwnerSandboxImage)
	}
	tests := map[string]struct {
		spec  []v1alpha1.NodeImage
		found digest.Digest
		want  bool
	}{
		"not found, not there":       {want: false},
		"found, not there":           {found: d1, want: true},
		"as it should be":            {spec: []v1alpha1.NodeImage{image("a", d1, "ns/a"), ours(pause, d1)}, found: d1},
		"another digest":             {spec: []v1alpha1.NodeImage{ours(pause, d2)}, found: d1, want: true},
		"there for somebody else":    {spec: []v1alpha1.NodeImage{image(pause, d1, "ns/a")}, found: d1, want: true},
		"of another runtime":         {spec: []v1alpha1.NodeImage{ours(old, d1)}, want: true},
		"of another runtime as well": {spec: []v1alpha1.NodeImage{ours(old, d1), ours(pause, d1)}, found: d1, want: true},
	}
	for name, tc := range tests {
		o := &v1alpha1.NodeImageCache{Spec: v1alpha1.NodeImageCacheSpec{Images: tc.spec}}
		if got := differs(o, ref, tc.found); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
