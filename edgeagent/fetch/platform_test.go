package fetch

import (
	"fmt"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func only(tb testing.TB, platform string) platforms.MatchComparer {
	tb.Helper()
	p, err := platforms.Parse(platform)
	if err != nil {
		tb.Fatal(err)
	}
	return platforms.Only(p)
}

// entry is an index entry for "os/arch/variant", "" for none. Its digest is of the platform.
func entry(tb testing.TB, platform string) ocispec.Descriptor {
	tb.Helper()
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: of(platform), Size: 1}
	if platform != "" {
		p, err := platforms.Parse(platform)
		if err != nil {
			tb.Fatal(err)
		}
		d.Platform = &p
	}
	return d
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		node    string
		entries []string
		want    []string
	}{
		"exact":                          {"linux/amd64", []string{"linux/arm64", "linux/amd64"}, []string{"linux/amd64"}},
		"none":                           {"linux/s390x", []string{"linux/arm64", "linux/amd64"}, nil},
		"other os":                       {"linux/amd64", []string{"windows/amd64"}, nil},
		"arm v7 prefers v7":              {"linux/arm/v7", []string{"linux/arm/v6", "linux/arm/v7", "linux/arm/v5"}, []string{"linux/arm/v7", "linux/arm/v6", "linux/arm/v5"}},
		"arm v6 cannot run v7":           {"linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v6"}, []string{"linux/arm/v6"}},
		"arm64 runs 32 bit as last":      {"linux/arm64", []string{"linux/arm/v7", "linux/arm64"}, []string{"linux/arm64", "linux/arm/v7"}},
		"amd64 v3 prefers v3":            {"linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v3", "linux/amd64/v4"}, []string{"linux/amd64/v3", "linux/amd64"}},
		"no platform named: come last":   {"linux/amd64", []string{"", "linux/amd64"}, []string{"linux/amd64", ""}},
		"no platform named and no other": {"linux/amd64", []string{"", "linux/arm64"}, []string{""}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idx, want := &ocispec.Index{}, []ocispec.Descriptor(nil)
			for _, e := range tc.entries {
				idx.Manifests = append(idx.Manifests, entry(t, e))
			}
			for _, e := range tc.want {
				want = append(want, entry(t, e))
			}
			if diff := cmp.Diff(want, candidates(idx, only(t, tc.node))); diff != "" {
				t.Errorf("candidates (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCandidatesAreImages(t *testing.T) {
	t.Parallel()
	node := only(t, "linux/amd64")
	change := map[string]func(*ocispec.Descriptor){
		"attestation":  func(d *ocispec.Descriptor) { d.Annotations = map[string]string{attestation: "attestation-manifest"} },
		"artifact":     func(d *ocispec.Descriptor) { d.ArtifactType, d.Platform = "application/x", nil },
		"nested index": func(d *ocispec.Descriptor) { d.MediaType = ocispec.MediaTypeImageIndex },
		"bad digest":   func(d *ocispec.Descriptor) { d.Digest = "x" },
		"too large":    func(d *ocispec.Descriptor) { d.Size = MaxDocument + 1 },
	}
	for name, f := range change {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := entry(t, "linux/amd64")
			f(&d)
			if got := candidates(&ocispec.Index{Manifests: []ocispec.Descriptor{d}}, node); len(got) != 0 {
				t.Errorf("candidates = %v, want none", got)
			}
		})
	}
}

func TestOffered(t *testing.T) {
	t.Parallel()
	many := &ocispec.Index{}
	for i := range 12 {
		many.Manifests = append(many.Manifests, entry(t, fmt.Sprintf("linux/a%02d", i)))
	}
	tests := map[string]struct {
		idx  *ocispec.Index
		want string
	}{
		"none": {&ocispec.Index{}, "no image at all"},
		"some": {&ocispec.Index{Manifests: []ocispec.Descriptor{entry(t, "linux/arm64"), entry(t, "linux/amd64"), entry(t, "linux/amd64"), entry(t, "")}}, "only linux/amd64, linux/arm64"},
		"many": {many, "only linux/a00, linux/a01, linux/a02, linux/a03, linux/a04, linux/a05, linux/a06, linux/a07, linux/a08, linux/a09 and others"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := offered(tc.idx); got != tc.want {
				t.Errorf("offered = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRunsOn(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config string
		runs   bool
		is     string
		fails  bool
	}{
		"same":            {`{"os":"linux","architecture":"arm","variant":"v7"}`, true, "linux/arm/v7", false},
		"default variant": {`{"os":"linux","architecture":"arm"}`, true, "linux/arm/v7", false},
		"newer variant":   {`{"os":"linux","architecture":"arm64"}`, false, "linux/arm64", false},
		"other names":     {`{"os":"linux","architecture":"armhf"}`, true, "linux/arm/v7", false},
		"says nothing":    {`{"rootfs":{}}`, true, "", false},
		"no json":         {`x`, false, "", true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runs, is, err := runsOn([]byte(tc.config), only(t, "linux/arm/v7"))
			if runs != tc.runs || is != tc.is || (err != nil) != tc.fails {
				t.Errorf("runsOn = %v, %q, %v, want %v, %q, error %v", runs, is, err, tc.runs, tc.is, tc.fails)
			}
		})
	}
}
