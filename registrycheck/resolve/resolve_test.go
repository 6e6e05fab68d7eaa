package resolve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/access"
)

// platformsOf gives what was found, as text.
func platformsOf(i Image) []string {
	var out []string
	for _, p := range i.Platforms {
		out = append(out, p.String())
	}
	return out
}

// wantPlatform reads from the image itself what Resolve has to find.
func wantPlatform(t *testing.T, img v1.Image) Platform {
	t.Helper()
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	p := Platform{
		OS: config.OS, Architecture: config.Architecture, Variant: config.Variant,
		Manifest: digest.FromBytes(raw), Config: digest.Digest(m.Config.Digest.String()),
		Size: int64(len(raw)) + m.Config.Size,
	}
	for _, l := range m.Layers {
		p.Layers = append(p.Layers, Layer{Digest: digest.Digest(l.Digest.String()), Size: l.Size})
		p.Size += l.Size
	}
	return p
}

func TestResolveIndex(t *testing.T) {
	t.Parallel()
	s, r := one(t)
	amd64, arm := image(t, "linux/amd64", 3), image(t, "linux/arm/v7", 1)
	windows := image(t, "windows/amd64", 1)
	note := entryOf(t, image(t, "unknown/unknown", 1), "unknown/unknown")
	note.Annotations = map[string]string{attestation: "attestation-manifest"}
	hidden := entryOf(t, image(t, "linux/amd64", 1), "linux/amd64") // marked, though it names a platform
	hidden.Annotations = map[string]string{attestation: "attestation-manifest"}
	index := mutate.AppendManifests(empty.Index,
		entryOf(t, amd64, "linux/amd64"), note, entryOf(t, windows, "windows/amd64"), hidden,
		entryOf(t, image(t, "unknown/unknown", 1), "unknown/unknown"), entryOf(t, arm, "linux/arm/v7"))
	want := s.push(t, "team/app:v1", index)

	got, err := r.Resolve(t.Context(), ref(t, "registry.test/team/app:v1"), anonymous)
	if err != nil {
		t.Fatal(err)
	}
	wantImage := Image{
		Reference: ref(t, "registry.test/team/app:v1"), Digest: want, MediaType: string(types.OCIImageIndex),
		Index: true, Platforms: []Platform{wantPlatform(t, amd64), wantPlatform(t, arm)}, Host: "registry.test",
	}
	if diff := cmp.Diff(wantImage.Content(), got.Content()); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	if got.Digest != want || !got.Index || got.MediaType != wantImage.MediaType || got.Host != "registry.test" || got.Reference != wantImage.Reference {
		t.Errorf("image = %+v, want %+v", got, wantImage)
	}
	// 1 for /v2/, 1 for the index, 2 for each of 2 platforms.
	if reqs := s.took(); len(reqs) != 1+1+2*2 {
		t.Errorf("%d requests, want 6:\n%s", len(reqs), strings.Join(reqs, "\n"))
	}
}

func TestRequestCounts(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(n, " platforms"), func(t *testing.T) {
			t.Parallel()
			s, r := one(t)
			d := s.push(t, "app:v1", indexOf(t, []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le"}[:n]...))
			tag, pinned := ref(t, "registry.test/app:v1"), ref(t, "registry.test/app").WithDigest(d)
			if _, err := r.Digest(t.Context(), tag, anonymous); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"GET /v2/", "HEAD /v2/app/manifests/v1"}, s.took()); diff != "" {
				t.Errorf("first Digest (-want +got):\n%s", diff)
			}
			for range 3 {
				if got, err := r.Digest(t.Context(), tag, anonymous); err != nil || got != d {
					t.Fatalf("Digest = %s, %v, want %s", got, err, d)
				}
			}
			if diff := cmp.Diff([]string{"HEAD /v2/app/manifests/v1", "HEAD /v2/app/manifests/v1", "HEAD /v2/app/manifests/v1"}, s.took()); diff != "" {
				t.Errorf("Digest (-want +got):\n%s", diff)
			}
			if got, err := r.Digest(t.Context(), pinned, anonymous); err != nil || got != d {
				t.Fatalf("Digest = %s, %v, want %s", got, err, d)
			}
			if diff := cmp.Diff([]string{"HEAD /v2/app/manifests/" + d.String()}, s.took()); diff != "" {
				t.Errorf("Digest of a digest (-want +got):\n%s", diff)
			}
			for _, what := range []imageref.Reference{tag, pinned} {
				got, err := r.Resolve(t.Context(), what, anonymous)
				if err != nil {
					t.Fatal(err)
				}
				if got.Digest != d || len(got.Platforms) != n {
					t.Errorf("Resolve(%s) = %s with %d platforms", what, got.Digest, len(got.Platforms))
				}
				if reqs := s.took(); len(reqs) != 1+2*n {
					t.Errorf("Resolve took %d requests, want %d:\n%s", len(reqs), 1+2*n, strings.Join(reqs, "\n"))
				}
			}
		})
	}
}

func TestResolveSingleManifest(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ platform, want string }{
		"amd64":                         {"linux/amd64", "linux/amd64"},
		"variant from the config":       {"linux/arm/v6", "linux/arm/v6"},
		"arm without variant is v7":     {"linux/arm", "linux/arm/v7"},
		"arm64 v8 is plain arm64":       {"linux/arm64/v8", "linux/arm64"},
		"no operating system means one": {"/amd64", "linux/amd64"},
		"nothing stated":                {"/", "linux"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := one(t)
			img := image(t, tc.platform, 2)
			want := s.push(t, "app:v1", img)
			got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tc.want}, platformsOf(got)); diff != "" {
				t.Errorf("platforms (-want +got):\n%s", diff)
			}
			if got.Digest != want || got.Index || got.Platforms[0].Manifest != want || got.MediaType != string(types.DockerManifestSchema2) {
				t.Errorf("image = %+v", got)
			}
			if size := wantPlatform(t, img).Size; got.Platforms[0].Size != size || got.MaxSize() != size {
				t.Errorf("size %d, want %d", got.Platforms[0].Size, size)
			}
			if n := len(s.took()); n != 1+2 {
				t.Errorf("%d requests, want 3", n)
			}
		})
	}
}

func TestEntriesWithoutPlatform(t *testing.T) {
	t.Parallel()
	s, r := one(t)
	artifact := mutate.ConfigMediaType(image(t, "linux/amd64", 1), "application/vnd.cncf.helm.config.v1+json")
	index := mutate.AppendManifests(empty.Index,
		entryOf(t, image(t, "linux/riscv64", 1), ""), entryOf(t, artifact, ""),
		entryOf(t, image(t, "windows/amd64", 1), ""), entryOf(t, image(t, "/", 1), ""))
	s.push(t, "app:v1", index)
	got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"linux/riscv64"}, platformsOf(got)); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

func TestThePlatformOfTheIndexCounts(t *testing.T) {
	t.Parallel()
	s, r := one(t)
	s.push(t, "app:v1", mutate.AppendManifests(empty.Index, entryOf(t, image(t, "linux/amd64", 1), "linux/arm64")))
	got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"linux/arm64"}, platformsOf(got)); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

func TestNestedIndexes(t *testing.T) {
	t.Parallel()
	nest := func(in ...mutate.IndexAddendum) v1.ImageIndex { return mutate.AppendManifests(empty.Index, in...) }
	inner := indexOf(t, "linux/arm64", "linux/s390x")
	many := make([]mutate.IndexAddendum, maxNested+1)
	for i := range many {
		many[i] = entryOf(t, indexOf(t, "linux/amd64"), "")
	}
	tests := map[string]struct {
		index v1.ImageIndex
		want  []string
		fails string
	}{
		"one level":               {nest(entryOf(t, inner, ""), entryOf(t, image(t, "linux/amd64", 1), "linux/amd64")), []string{"linux/amd64", "linux/arm64", "linux/s390x"}, ""},
		"nested for windows":      {nest(entryOf(t, inner, "windows/amd64"), entryOf(t, image(t, "linux/amd64", 1), "linux/amd64")), []string{"linux/amd64"}, ""},
		"two levels":              {nest(entryOf(t, nest(entryOf(t, inner, "")), "")), nil, "nested deeper than 2 levels"},
		"too many nested indexes": {nest(many...), nil, "more than 1000 entries or 8 nested"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := one(t)
			s.push(t, "app:v1", tc.index)
			got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
			if tc.fails != "" {
				wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonInvalidImage, tc.fails)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, platformsOf(got)); diff != "" {
				t.Errorf("platforms (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMoreThan32Platforms(t *testing.T) {
	t.Parallel()
	s, r := one(t)
	var list, want []string
	for i := range MaxPlatforms + 3 {
		list = append(list, fmt.Sprintf("linux/cpu%02d", i))
	}
	want = list[:MaxPlatforms]
	s.push(t, "app:v1", indexOf(t, list...))
	got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, platformsOf(got)); diff != "" || got.Omitted != 3 {
		t.Errorf("omitted %d, platforms (-want +got):\n%s", got.Omitted, diff)
	}
	if n := len(s.took()); n != 1+1+2*MaxPlatforms {
		t.Errorf("%d requests, want none for what is left out", n)
	}
}

func TestSparseIndex(t *testing.T) {
	t.Parallel()
	index := indexOf(t, "linux/amd64", "linux/s390x", "linux/arm/v7")
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	gone := func(digests ...v1.Hash) front {
		return func(w http.ResponseWriter, r *http.Request) bool {
			for _, d := range digests {
				if strings.HasSuffix(r.URL.Path, d.String()) {
					answer(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
					return true
				}
			}
			return false
		}
	}
	t.Run("one is not there", func(t *testing.T) {
		t.Parallel()
		s, r := one(t, gone(m.Manifests[1].Digest))
		s.push(t, "app:v1", index)
		got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"linux/amd64", "linux/arm/v7"}, platformsOf(got)); diff != "" {
			t.Errorf("platforms (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"linux/s390x"}, got.Absent); diff != "" {
			t.Errorf("absent (-want +got):\n%s", diff)
		}
	})
	t.Run("none is there", func(t *testing.T) {
		t.Parallel()
		s, r := one(t, gone(m.Manifests[0].Digest, m.Manifests[1].Digest, m.Manifests[2].Digest))
		s.push(t, "app:v1", index)
		_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
		wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonNotFound, "registry.test has no")
	})
}

// TestInlineData: descriptors may carry what they describe, which saves the request.
func TestInlineData(t *testing.T) {
	t.Parallel()
	img := image(t, "linux/arm64", 1)
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m = m.DeepCopy()
	m.Config.Data = config
	build := func(change func(*v1.Manifest)) rawManifest {
		c := m.DeepCopy()
		change(c)
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return rawManifest{string(b), types.DockerManifestSchema2}
	}
	s, r := one(t)
	s.push(t, "app:good", build(func(*v1.Manifest) {}))
	s.push(t, "app:lie", build(func(m *v1.Manifest) { m.Config.Data[0]++ }))
	if _, err := r.Resolve(t.Context(), ref(t, "registry.test/app:good"), anonymous); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"GET /v2/", "GET /v2/app/manifests/good"}, s.took()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	_, err = r.Resolve(t.Context(), ref(t, "registry.test/app:lie"), anonymous)
	wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonDigestMismatch, "image configuration")
}

func TestSharedLayersCountOnce(t *testing.T) {
	t.Parallel()
	img := image(t, "linux/amd64", 1)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	twice, err := mutate.AppendLayers(img, layers[0], layers[0])
	if err != nil {
		t.Fatal(err)
	}
	s, r := one(t)
	s.push(t, "app:v1", twice)
	got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	if err != nil {
		t.Fatal(err)
	}
	p := got.Platforms[0]
	all := wantPlatform(t, twice)
	if want := all.Size - 2*all.Layers[0].Size; p.Size != want || len(p.Layers) != 3 {
		t.Errorf("size %d with %d layers, want %d with 3", p.Size, len(p.Layers), want)
	}
}

// TestConcurrentCallsShareOneLogin also holds the limit of requests per host.
func TestConcurrentCallsShareOneLogin(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var now, most int
	s := newServer(t, func(http.ResponseWriter, *http.Request) bool {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
		return false
	})
	settings := plain("registry.test")
	settings.MaxRequestsPerHost = 3
	r := newResolver(t, settings, names{"registry.test": s})
	s.push(t, "app:v1", indexOf(t, "linux/amd64", "linux/arm64"))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.count("GET /v2/") - s.count("GET /v2/app"); n != 1 {
		t.Errorf("%d requests to /v2/, want 1", n)
	}
	if most > 3 {
		t.Errorf("%d requests at a time, want at most 3", most)
	}
}

func TestEmptyReference(t *testing.T) {
	t.Parallel()
	_, r := one(t)
	_, err := r.Resolve(t.Context(), imageref.Reference{}, anonymous)
	wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonInvalidReference, "reference is empty")
	if _, err := New(access.Settings{MaxRequestsPerHost: -1}); err == nil || !strings.Contains(err.Error(), "maxRequestsPerHost: Invalid value: -1: must be from 1 to 64") {
		t.Errorf("New error = %v", err)
	}
}

func TestCancelling(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	s, r := one(t, func(_ http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, "manifests") {
			arrived <- struct{}{}
			<-req.Context().Done()
			return true
		}
		return false
	})
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	start := time.Now()
	_, err := r.Digest(ctx, ref(t, "registry.test/app:v1"), anonymous)
	wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonNetworkError, "was cancelled")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("errors.Is(%v, context.Canceled) = false", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("returned after %s", took)
	}
}

// TestOneCallersCancelDoesNotFailTheOthers: they share the log-in that the first began.
func TestOneCallersCancelDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	var once sync.Once
	s, r := one(t, func(_ http.ResponseWriter, req *http.Request) (answered bool) {
		once.Do(func() {
			close(arrived)
			<-req.Context().Done()
			answered = true
		})
		return answered
	})
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := r.Digest(ctx, ref(t, "registry.test/app:v1"), anonymous)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("first caller: %v, want cancelled", err)
		}
	})
	<-arrived
	for range 3 {
		wg.Go(func() {
			if _, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous); err != nil {
				t.Errorf("other caller: %v", err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // lets most of them join; either way is right
	cancel()
	wg.Wait()
}

func TestUserAgent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	for name, opts := range map[string][]access.Option{"edgecache ": nil, "registrycheck/v1 ": {access.WithUserAgent("registrycheck/v1")}} {
		r, err := New(plain("registry.test"), append(opts, access.WithDial(names{"registry.test": s}.dial))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		if _, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous); err != nil {
			t.Fatal(err)
		}
		for _, got := range s.sent("User-Agent") {
			if !strings.HasPrefix(got, name) {
				t.Errorf("User-Agent %q, want one that begins with %q", got, name)
			}
		}
		s.took()
	}
}
