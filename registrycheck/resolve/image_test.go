package resolve

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// sized makes an index whose platforms have the sizes 1, 2, 3 … in order.
func sized(t *testing.T, list ...string) Image {
	t.Helper()
	i := Image{Index: true, Digest: digest.FromString("index")}
	for n, s := range list {
		p := platforms.Normalize(node(t, s))
		i.Platforms = append(i.Platforms, Platform{
			OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
			Manifest: digest.FromString(s), Config: digest.FromString("config of " + s), Size: int64(n + 1),
			Layers: []Layer{{digest.FromString("layer"), 1}},
		})
	}
	return i
}

func TestSizeForFollowsContainerd(t *testing.T) {
	t.Parallel()
	all := []string{"linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64", "linux/386", "linux/amd64/v3"}
	tests := map[string]struct {
		image []string
		node  string
		want  int64 // 0 for none
	}{
		"exact":                             {all, "linux/amd64", 1},
		"arm v7":                            {all, "linux/arm/v7", 3},
		"arm v8 takes v7":                   {all, "linux/arm/v8", 3},
		"arm v6 takes v5":                   {all, "linux/arm/v6", 2},
		"arm without variant is v7":         {all, "linux/arm", 3},
		"arm v5 cannot run v7":              {[]string{"linux/arm/v7"}, "linux/arm/v5", 0},
		"best of two, whatever the order":   {[]string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7", 2},
		"arm64":                             {all, "linux/arm64", 4},
		"arm64 v8":                          {all, "linux/arm64/v8", 4},
		"arm64 v9 takes v8":                 {all, "linux/arm64/v9", 4},
		"arm64 takes 32 bits without 64":    {[]string{"linux/amd64", "linux/arm/v7"}, "linux/arm64", 2},
		"amd64 v3":                          {all, "linux/amd64/v3", 6},
		"amd64 v2 takes the plain one":      {all, "linux/amd64/v2", 1},
		"amd64 takes 386 without amd64":     {[]string{"linux/arm64", "linux/386"}, "linux/amd64", 2},
		"386 cannot run amd64":              {[]string{"linux/amd64"}, "linux/386", 0},
		"nothing for it":                    {all, "linux/s390x", 0},
		"other system":                      {all, "windows/amd64", 0},
		"the first of two equal ones":       {[]string{"linux/amd64", "linux/amd64"}, "linux/amd64", 1},
		"architecture in another spelling":  {all, "linux/x86_64", 1},
		"architecture in another spelling2": {all, "linux/aarch64", 4},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := sized(t, tc.image...).SizeFor(node(t, tc.node))
			if got != tc.want || ok != (tc.want > 0) {
				t.Errorf("SizeFor(%s) = %d, %v, want %d", tc.node, got, ok, tc.want)
			}
		})
	}
}

func TestSizeForWithoutIndex(t *testing.T) {
	t.Parallel()
	single := sized(t, "linux/amd64")
	single.Index = false
	if got, ok := single.SizeFor(node(t, "linux/arm64")); got != 1 || !ok {
		t.Errorf("SizeFor = %d, %v: runtimes pull an image that is no index on any node", got, ok)
	}
	if got, ok := sized(t, "linux/arm64").SizeFor(platforms.Platform{Architecture: "arm64"}); got != 1 || !ok {
		t.Errorf("SizeFor without operating system = %d, %v, want that for linux", got, ok)
	}
	if got, ok := (Image{Index: true}).SizeFor(node(t, "linux/amd64")); got != 0 || ok {
		t.Errorf("SizeFor of nothing = %d, %v", got, ok)
	}
}

// TestImpliedPlatformsAreTheLastResort, even when they fit better.
func TestImpliedPlatformsAreTheLastResort(t *testing.T) {
	t.Parallel()
	i := sized(t, "linux/arm/v7", "linux/arm/v7", "linux/arm/v5", "linux/arm/v6")
	i.Platforms[0].Implied, i.Platforms[1].Implied = true, true
	for n, want := range map[string]int64{"linux/arm/v7": 4, "linux/arm/v6": 4, "linux/arm/v5": 3} {
		if got, _ := i.SizeFor(node(t, n)); got != want {
			t.Errorf("SizeFor(%s) = %d, want %d", n, got, want)
		}
	}
	i.Platforms = i.Platforms[:2]
	if got, ok := i.SizeFor(node(t, "linux/arm/v7")); got != 1 || !ok {
		t.Errorf("SizeFor = %d, %v, want the first implied one", got, ok)
	}
}

func TestMaxSize(t *testing.T) {
	t.Parallel()
	if got := sized(t, "linux/amd64", "linux/arm64", "linux/386").MaxSize(); got != 3 {
		t.Errorf("MaxSize() = %d, want 3", got)
	}
	if got := (Image{}).MaxSize(); got != 0 {
		t.Errorf("MaxSize() of nothing = %d", got)
	}
}

func TestContent(t *testing.T) {
	t.Parallel()
	image := sized(t, "linux/arm/v7")
	image.Reference = ref(t, "nginx:1.27")
	want := &v1alpha1.ImageContent{
		ObjectMeta:   metav1.ObjectMeta{Name: "sha256-" + digest.FromString("index").Encoded()},
		Repositories: []string{"docker.io/library/nginx"},
		Platforms: []v1alpha1.PlatformContent{{
			OS: "linux", Architecture: "arm", Variant: "v7", Size: 1,
			ManifestDigest: digest.FromString("linux/arm/v7").String(),
			ConfigDigest:   digest.FromString("config of linux/arm/v7").String(),
			Layers:         []v1alpha1.Layer{{Digest: digest.FromString("layer").String(), Size: 1}},
		}},
	}
	if diff := cmp.Diff(want, image.Content()); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
}

func TestFromContentGivesTheImageBack(t *testing.T) {
	t.Parallel()
	single := sized(t, "linux/amd64")
	single.Index, single.Digest = false, single.Platforms[0].Manifest
	for name, image := range map[string]Image{"index": sized(t, "linux/amd64", "linux/arm/v7"), "index of one": sized(t, "linux/amd64"), "no index": single} {
		got, err := FromContent(image.Content())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(image.Platforms, got.Platforms); diff != "" || got.Digest != image.Digest || got.Index != image.Index {
			t.Errorf("%s: %s index %v, platforms (-want +got):\n%s", name, got.Digest, got.Index, diff)
		}
	}
	for name, c := range map[string]*v1alpha1.ImageContent{
		"its name":     {ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Platforms: []v1alpha1.PlatformContent{{}}},
		"no platforms": {ObjectMeta: metav1.ObjectMeta{Name: "sha256-" + strings.Repeat("a", 64)}},
	} {
		if _, err := FromContent(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("FromContent error = %v, want one containing %q", err, name)
		}
	}
}

// TestLimitsAreThoseOfTheKind keeps what Resolve returns writable.
func TestLimitsAreThoseOfTheKind(t *testing.T) {
	t.Parallel()
	if MaxPlatforms != 32 || MaxLayers != 256 || maxMessage != 512 || maxPlatformWord != 32 {
		t.Error("limits differ from the kubebuilder markers of ImageContent and ImageCheck")
	}
	if got := sized(t, "linux/arm/v7").Platforms[0].String(); got != "linux/arm/v7" {
		t.Errorf("String() = %q", got)
	}
	if !slices.Contains(accepted(), "application/vnd.oci.image.index.v1+json") || len(accepted()) != 4 {
		t.Errorf("accepted() = %q", accepted())
	}
}
