package resolve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/keychain"
)

// dice gives a source of random numbers whose seed is printed when the test fails.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// pick takes one of a list.
func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// randomIndex builds an index of images, attestations and images for other systems, and
// says what Resolve has to find in it.
func randomIndex(t *testing.T, r *rand.Rand) (v1.ImageIndex, []Platform) {
	t.Helper()
	var adds []mutate.IndexAddendum
	var want []Platform
	unstated := false // containerd looks at the first of such entries only
	for range 1 + r.IntN(6) {
		stated := pick(r, "linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/386", "linux/s390x", "linux/amd64/v2", "windows/amd64", "unknown/unknown", "")
		if stated == "" && unstated {
			continue
		}
		unstated = unstated || stated == ""
		inside := stated
		if stated == "" {
			inside = pick(r, "linux/amd64", "windows/arm64", "linux/arm")
		}
		img := image(t, inside, int64(r.IntN(4)))
		marked := r.IntN(8) == 0
		if marked {
			stated = "unknown/unknown" // as BuildKit writes it
		}
		add := entryOf(t, img, stated)
		if marked {
			add.Annotations = map[string]string{attestation: "attestation-manifest"}
		}
		adds = append(adds, add)
		if p := wantPlatform(t, img); !marked && strings.HasPrefix(inside, "linux/") {
			n := platforms.Normalize(p.spec())
			p.OS, p.Architecture, p.Variant = n.OS, n.Architecture, n.Variant
			want = append(want, p)
		}
	}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, pick(r, types.OCIImageIndex, types.DockerManifestList)), adds...), want
}

// sameContent compares what an ImageContent keeps; no layers and none listed are one.
func sameContent(t *testing.T, want []Platform, got Image) {
	t.Helper()
	if diff := cmp.Diff(Image{Platforms: want}.Content().Platforms, got.Content().Platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

func TestRandomIndexes(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s, resolver := one(t)
	for i := range 20 {
		index, want := randomIndex(t, r)
		where := fmt.Sprintf("app:v%d", i)
		d := s.push(t, where, index)
		s.took()
		got, err := resolver.Resolve(t.Context(), ref(t, "registry.test/"+where), anonymous)
		if len(want) == 0 {
			wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonPlatformMissing, "")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		sameContent(t, want, got)
		if again, err := resolver.Digest(t.Context(), ref(t, "registry.test/"+where), anonymous); err != nil || again != d || got.Digest != d {
			t.Errorf("Digest = %s, %v, Resolve found %s, pushed %s", again, err, got.Digest, d)
		}
		back, err := FromContent(got.Content())
		if err != nil || back.MaxSize() != got.MaxSize() {
			t.Errorf("FromContent: %v, size %d, want %d", err, back.MaxSize(), got.MaxSize())
		}
	}
}

// TestBadLinks resolves over a network that fails at random. The outcome is either right
// or a failure that is worth another try: never a wrong digest, never "not pullable".
func TestBadLinks(t *testing.T) {
	t.Parallel()
	r := dice(t)
	var mu sync.Mutex
	roll := func() int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(16)
	}
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) bool {
		switch roll() {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			answer(w, http.StatusBadGateway)
		case 2:
			w.Header().Set("Retry-After", "1")
			answer(w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
		case 3: // cut short
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[`)
		case 4:
			time.Sleep(5 * time.Millisecond)
			return false
		default:
			return false
		}
		return true
	})
	resolver := newResolver(t, plain("registry.test"), names{"registry.test": s})
	index, want := indexOf(t, "linux/amd64", "linux/arm/v7"), []string{"linux/amd64", "linux/arm/v7"}
	d := s.push(t, "app:v1", index)
	var wg sync.WaitGroup
	var good, bad int
	for i := range 40 {
		if i%4 == 0 {
			wg.Wait() // callers at the same time share the fate of their log-in
		}
		wg.Go(func() {
			got, err := resolver.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				good++
				if diff := cmp.Diff(want, platformsOf(got)); diff != "" || got.Digest != d {
					t.Errorf("%s, platforms (-want +got):\n%s", got.Digest, diff)
				}
				return
			}
			bad++
			if e, ok := errors.AsType[*Error](err); !ok || e.Verdict != v1alpha1.VerdictInconclusive {
				t.Errorf("error %v", err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d succeeded, %d are worth another try", good, bad)
	if good == 0 {
		t.Error("none succeeded")
	}
}

// library is a content store in memory, for containerd's own code to read.
type library map[digest.Digest][]byte

// blob is one of its contents.
type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func (l library) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	b, ok := l[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("no content %s", desc.Digest)
	}
	return blob{bytes.NewReader(b)}, nil
}

// add puts an index with all of its manifests and configurations into the library.
func (l library) add(t *testing.T, index v1.ImageIndex) {
	t.Helper()
	put := func(b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		l[digest.FromBytes(b)] = b
	}
	put(index.RawManifest())
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		put(img.RawManifest())
		put(img.RawConfigFile())
	}
}

// TestNodesTakeWhatContainerdTakes compares For with containerd's own choice of a
// manifest, over random indexes and many kinds of nodes.
func TestNodesTakeWhatContainerdTakes(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s, resolver := one(t)
	nodes := []string{"linux/amd64", "linux/amd64/v3", "linux/arm64", "linux/arm64/v9", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8", "linux/386", "linux/s390x", "linux/riscv64"}
	compared := 0
	for i := range 15 {
		index, want := randomIndex(t, r)
		if len(want) == 0 {
			continue
		}
		where := fmt.Sprintf("app:v%d", i)
		d := s.push(t, where, index)
		got, err := resolver.Resolve(t.Context(), ref(t, "registry.test/"+where), anonymous)
		if err != nil {
			t.Fatal(err)
		}
		store := library{}
		store.add(t, index)
		top := ocispec.Descriptor{MediaType: got.MediaType, Digest: d, Size: int64(len(store[d]))}
		for _, n := range nodes {
			manifest, err := images.Manifest(t.Context(), store, top, platforms.Only(node(t, n)))
			mine, ok := got.For(node(t, n))
			if (err == nil) != ok || ok && manifest.Config.Digest != mine.Config {
				t.Errorf("%s in %v: containerd takes %s (%v), For gives %s %v", n, platformsOf(got), manifest.Config.Digest, err, mine.Config, ok)
			}
			compared++
		}
	}
	if compared < 60 {
		t.Errorf("only %d comparisons", compared)
	}
}

// TestManyUsersManyImages runs callers with different rights side by side: nobody gets
// what only another may read.
func TestManyUsersManyImages(t *testing.T) {
	t.Parallel()
	teams := []string{"blue", "green", "red"}
	ts := &tokenServer{realm: "http://registry.test/token", allowed: teams, readers: teams}
	s := newServer(t, ts.serve, ts.guard, func(w http.ResponseWriter, r *http.Request) bool {
		team := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "+tokenPrefix)
		if r.URL.Path == "/v2/" || strings.HasPrefix(r.URL.Path, "/v2/"+team+"/") {
			return false
		}
		answer(w, http.StatusForbidden, "DENIED")
		return true
	})
	r := newResolver(t, plain("registry.test"), names{"registry.test": s})
	digests := map[string]digest.Digest{}
	for _, team := range teams {
		digests[team] = s.push(t, team+"/app:v1", image(t, "linux/amd64", 1))
	}
	var wg sync.WaitGroup
	for i := range 60 {
		me, wanted := teams[i%3], teams[(i/3)%3]
		wg.Go(func() {
			keys := keychain.Of(user("registry.test", me, password))
			got, err := r.Digest(t.Context(), ref(t, "registry.test/"+wanted+"/app:v1"), keys)
			if me == wanted && (err != nil || got != digests[wanted]) {
				t.Errorf("%s: %s, %v", me, got, err)
			}
			if me != wanted {
				wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized, "")
			}
		})
	}
	wg.Wait()
	// A keychain with all teams finds the one that may.
	all := make([]keychain.Credential, 0, len(teams))
	for _, team := range teams {
		all = append(all, user("registry.test", team, password))
	}
	for _, team := range teams {
		if got, err := r.Digest(t.Context(), ref(t, "registry.test/"+team+"/app:v1"), keychain.Of(all...)); err != nil || got != digests[team] {
			t.Errorf("all keys for %s: %s, %v", team, got, err)
		}
	}
}

// TestRandomKeychains: whatever the order of good and bad credentials, an image is found
// if and only if one of them may read it, and anonymous rights are never used.
func TestRandomKeychains(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s, resolver := one(t, basic("good", "fine"))
	want := s.push(t, "app:v1", image(t, "linux/amd64", 1))
	for range 30 {
		var creds []keychain.Credential
		var users []string
		for range 1 + r.IntN(4) {
			u := pick(r, "good", "fine", "bad", "worse")
			users = append(users, u)
			creds = append(creds, user(pick(r, "registry.test", "*.test", "registry.test/app", "registry.test/ap"), u, password))
		}
		may := slices.Contains(users, "good") || slices.Contains(users, "fine")
		got, err := resolver.Digest(t.Context(), ref(t, "registry.test/app:v1"), keychain.Of(creds...))
		if may != (err == nil) || may && got != want {
			t.Errorf("users %v: %s, %v", users, got, err)
		}
	}
}
