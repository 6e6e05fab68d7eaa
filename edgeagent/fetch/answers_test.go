package fetch_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

// answering serves blobs in a way of its own.
func (f *fixture) answering(serve func(w http.ResponseWriter, req *http.Request, blob []byte)) {
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, req *http.Request) bool {
		_, d, ok := strings.Cut(req.URL.Path, "/blobs/")
		if !ok {
			return false
		}
		serve(w, req, f.reg.Blob(digest.Digest(d)))
		return true
	}})
}

func put(t *testing.T, w http.ResponseWriter, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Error(err)
	}
}

func TestServersAnswerInManyWays(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		serve func(t *testing.T, w http.ResponseWriter, req *http.Request, blob []byte)
		want  fetch.Reason // "" for success
	}{
		"without length": {func(t *testing.T, w http.ResponseWriter, _ *http.Request, blob []byte) {
			t.Helper()
			for i := 0; i < len(blob); i += 1000 {
				put(t, w, blob[i:min(i+1000, len(blob))])
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
			}
		}, ""},
		"ten kilobytes at a time": {func(t *testing.T, w http.ResponseWriter, req *http.Request, blob []byte) {
			t.Helper()
			var first int
			if _, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &first); err != nil {
				first = 0
			}
			last := min(first+10_000, len(blob))
			if first == 0 && last == len(blob) {
				put(t, w, blob)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
			put(t, w, blob[first:last])
		}, ""},
		"more than there should be": {func(t *testing.T, w http.ResponseWriter, _ *http.Request, blob []byte) {
			t.Helper()
			w.Header().Set("Content-Length", strconv.Itoa(len(blob)+3))
			put(t, w, append(slices.Clip(blob), "abc"...))
		}, fetch.RegistryError},
		"more, without saying so": {func(t *testing.T, w http.ResponseWriter, _ *http.Request, blob []byte) {
			t.Helper()
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			put(t, w, blob)
			_, _ = w.Write(make([]byte, 1<<20)) // nobody reads it
		}, ""},
		"compressed once more": {func(t *testing.T, w http.ResponseWriter, _ *http.Request, blob []byte) {
			t.Helper()
			w.Header().Set("Content-Encoding", "gzip")
			put(t, w, blob)
		}, fetch.RegistryError},
		"a login page": {func(t *testing.T, w http.ResponseWriter, _ *http.Request, _ []byte) {
			t.Helper()
			put(t, w, []byte("<html>Welcome to the hotel"))
		}, fetch.RegistryError},
		"redirects without end": {func(t *testing.T, w http.ResponseWriter, req *http.Request, _ []byte) {
			t.Helper()
			http.Redirect(w, req, req.URL.String(), http.StatusTemporaryRedirect)
		}, fetch.NetworkError},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 35_000)))
			f.answering(func(w http.ResponseWriter, req *http.Request, blob []byte) { tc.serve(t, w, req, blob) })
			_, err := f.puller(fetch.Options{Attempts: 1}).Image(t.Context(), f.want(t, d), nil)
			if tc.want == "" && err != nil {
				t.Error(err)
			}
			if tc.want != "" {
				_ = reason(t, err, tc.want)
			}
		})
	}
}

func TestManifestTooLarge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = w.Write(make([]byte, fetch.MaxDocument+2))
		return true
	}})
	_, err := f.pull(t, digest.FromString("x"))
	if e := reason(t, err, fetch.RegistryError); !strings.Contains(e.Error(), "more than 4194304 bytes") {
		t.Errorf("error = %v", e)
	}
}

// raw serves a manifest that no tool would make, by its digest.
func (f *fixture) raw(t *testing.T, v any) digest.Digest {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(body)
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, "/manifests/"+d.String()) {
			return false
		}
		put(t, w, body)
		return true
	}})
	return d
}

func TestIndexThatNamesNoPlatforms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	amd, arm := fetchtest.Image(t, "linux/amd64", fetchtest.Layer(t, 1, 1000)), fetchtest.Image(t, node, fetchtest.Layer(t, 2, 1000))
	var entries []ocispec.Descriptor
	for _, d := range []digest.Digest{f.reg.Push(t, "app:amd", amd), f.reg.Push(t, "app:arm", arm)} {
		entries = append(entries, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 400})
	}
	img, err := f.pull(t, f.raw(t, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: entries}))
	if err != nil || img.Config.Digest != fetchtest.ConfigDigest(t, arm) {
		t.Fatalf("config %s, %v, want that of %s", img.Config.Digest, err, node)
	}
	if n := len(f.reg.Transfers(fetchtest.Blobs(t, amd)[1])); n != 0 {
		t.Error("a layer of another platform was fetched")
	}
	_, err = f.pull(t, f.raw(t, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: entries[:1]}))
	_ = reason(t, err, fetch.PlatformMissing)
}

func TestIndexThatNamesAnIndexAsManifest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	inner := f.reg.Push(t, "app:v1", fetchtest.Index(t, fetchtest.Image(t, node)))
	_, err := f.pull(t, f.raw(t, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
		{MediaType: ocispec.MediaTypeImageManifest, Digest: inner, Size: 400, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}},
	}}))
	if e := reason(t, err, fetch.RegistryError); !strings.Contains(e.Error(), "as a manifest, which it is not") {
		t.Errorf("error = %v", e)
	}
}

func TestDockerMediaTypes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	img := mutate.ConfigMediaType(mutate.MediaType(fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)), types.DockerManifestSchema2), types.DockerConfigJSON)
	d := f.reg.Push(t, "app:v1", mutate.IndexMediaType(fetchtest.Index(t, img), types.DockerManifestList))
	got, err := f.pull(t, d)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{string(types.DockerManifestList), string(types.DockerManifestSchema2), string(types.DockerConfigJSON)}
	if diff := cmp.Diff(want, []string{got.Target.MediaType, got.Manifest.MediaType, got.Config.MediaType}); diff != "" {
		t.Errorf("media types (-want +got):\n%s", diff)
	}
}

func TestRedirectTargetIsNotGivenCredentials(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	greedy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="give me"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(greedy.Close)
	f.reg.Set(fetchtest.Faults{Redirect: greedy.URL})
	var mu sync.Mutex
	var asked []string
	f.opts.Credentials = func(_ imageref.Reference, host string) ([]fetch.Login, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, host)
		return []fetch.Login{{User: "u", Secret: "s3cret"}}, nil
	}
	_, err := f.pull(t, d)
	_ = reason(t, err, fetch.Unauthorized)
	if len(asked) != 0 {
		t.Errorf("credentials were asked for %v, and the registry itself wanted none", asked)
	}
}

func TestTokenServerThatTalksTooMuch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"token":"`)
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+endless.URL+`"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}})
	_, err := f.puller(fetch.Options{Attempts: 1}).Image(t.Context(), f.want(t, d), nil)
	if err == nil {
		t.Error("an endless token was accepted")
	}
}

func TestRegistryThatNeverLikesItsOwnTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	s := newTokenServer(t, f.reg)
	f.opts.Credentials = password("s3cret")
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",scope="repository:app:pull"`, s.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}})
	_, err := f.pull(t, d)
	_ = reason(t, err, fetch.Unauthorized)
	if n := len(f.reg.Requests()); n > 6 {
		t.Errorf("asked %d times for one manifest", n)
	}
}

func TestMirrorOfDockerHub(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mirror := fetchtest.NewRegistry(t)
	d := mirror.Push(t, "library/app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
	root := t.TempDir()
	fetchtest.WriteHosts(t, root, "docker.io", "server = \"http://127.0.0.1:1\"\n[host.\"http://"+mirror.Host+"\"]\n")
	f.opts.HostsDirs = []string{root}
	want := f.want(t, d)
	want.Name = mustRef(t, "app:v1")
	if _, err := f.puller(fetch.Options{Attempts: 1}).Image(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	for _, req := range mirror.Requests() {
		if !strings.HasPrefix(req.URL.Path, "/v2/library/app/") || req.URL.Query().Get("ns") != "docker.io" {
			t.Errorf("mirror was asked for %s", req.URL)
		}
	}
}
