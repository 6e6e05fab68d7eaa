package resolution

import (
	"testing"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/keychain"
	"edgecache.dev/registrycheck/resolve"
)

func TestManifestProber(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image = resolve.Image{Index: true, Platforms: []resolve.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm", Variant: "v7"}}}
	p, err := ManifestProber{w}.Probe(t.Context(), mustParse(app), []string{amd64, arm64, "linux/s390x"}, keychain.Keychain{})
	if err != nil {
		t.Fatal(err)
	}
	for platform, want := range map[string]string{amd64: "", arm64: "" /* runs 32 bits, too */, "linux/s390x": v1alpha1.ReasonPlatformMissing} {
		if got, ok := p.Found[platform]; !ok || got.Reason != want || (got.Verdict == v1alpha1.VerdictPullable) != (want == "") {
			t.Errorf("%s: %+v, want reason %q", platform, got, want)
		}
	}
	w.requests("GET :v1")
}
