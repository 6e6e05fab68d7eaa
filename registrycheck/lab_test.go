package registrycheck

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"edgecache.dev/registrycheck/keychain"
)

func TestMain(m *testing.M) {
	// The thread that started a child is kept on purpose (test/lab/process).
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("edgecache.dev/test/lab/process.(*child).own"))
}

// Media types of Docker.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// front decides about a request before the registry sees it; true means it answered.
type front func(w http.ResponseWriter, r *http.Request) bool

// server is a registry in this process that can be made to do anything wrong.
type server struct {
	*httptest.Server

	mu       sync.Mutex // guards all below
	fronts   []front
	stored   map[string]stored // by "app/manifests/v1", "app/blobs/sha256:…"
	requests []string          // "GET /v2/app/manifests/v1"
}

// stored is one object of a registry.
type stored struct {
	mediaType string
	raw       []byte
	claimed   int64 // the size that it claims to have; 0 is the true one
}

func newServer(tb testing.TB) *server {
	tb.Helper()
	s := unstarted()
	s.Start()
	tb.Cleanup(s.Close)
	return s
}

func unstarted() *server {
	s := &server{stored: map[string]stored{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

func (s *server) addr() string { return s.Listener.Addr().String() }

// ref names an image of the server.
func (s *server) ref(image string) string { return s.addr() + "/" + image }

// on puts something in front of the registry.
func (s *server) on(f front) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fronts = append(s.fronts, f)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	fronts := s.fronts
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	object, ok := s.stored[path]
	s.mu.Unlock()
	for _, f := range fronts {
		if f(w, r) {
			return
		}
	}
	switch {
	case path == "":
		w.WriteHeader(http.StatusOK)
	case !ok && strings.Contains(path, "/blobs/"):
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
	case !ok:
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
	default:
		object.serve(w, r)
	}
}

func (o stored) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", o.mediaType)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(o.raw).String())
	if o.claimed > 0 && r.Method == http.MethodHead {
		w.Header().Set("Content-Length", strconv.FormatInt(o.claimed, 10))
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.raw))
}

// took gives the requests since the last call.
func (s *server) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

// refuse answers as a registry does.
func refuse(w http.ResponseWriter, status int, codes ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	var list []string
	for _, c := range codes {
		list = append(list, fmt.Sprintf(`{"code":%q,"message":"no"}`, c))
	}
	_, _ = fmt.Fprintf(w, `{"errors":[%s]}`, strings.Join(list, ","))
}

// put stores an object and describes it.
func (s *server) put(where, mediaType string, raw []byte) ocispec.Descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[where] = stored{mediaType: mediaType, raw: raw}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

func (s *server) remove(repository string, d ocispec.Descriptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, kind := range []string{"blobs", "manifests"} {
		delete(s.stored, repository+"/"+kind+"/"+d.Digest.String())
	}
}

// change replaces what is stored of a blob, whose descriptors stay.
func (s *server) change(repository string, d ocispec.Descriptor, how func(*stored)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	where := repository + "/blobs/" + d.Digest.String()
	o := s.stored[where]
	how(&o)
	s.stored[where] = o
}

// blob stores a blob.
func (s *server) blob(repository, mediaType string, raw []byte) ocispec.Descriptor {
	return s.put(repository+"/blobs/"+digest.FromBytes(raw).String(), mediaType, raw)
}

// manifest stores a manifest or index, under its digest and under a tag unless that is "".
func (s *server) manifest(tb testing.TB, repository, tag, mediaType string, what any) ocispec.Descriptor {
	tb.Helper()
	raw, ok := what.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(what); err != nil {
			tb.Fatal(err)
		}
	}
	if tag != "" {
		s.put(repository+"/manifests/"+tag, mediaType, raw)
	}
	return s.put(repository+"/manifests/"+digest.FromBytes(raw).String(), mediaType, raw)
}

// layer is a layer with the digest of its content.
type layer struct {
	ocispec.Descriptor
	diffID digest.Digest
}

// content makes a tar file of one file, whose content depends on the seed.
func content(tb testing.TB, seed string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := []byte(strings.Repeat(seed+"\n", 100))
	if err := w.WriteHeader(&tar.Header{Name: "file-" + digest.FromString(seed).Encoded()[:8], Mode: 0o644, Size: int64(len(text))}); err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// pack compresses a layer's content as its media type says.
func pack(tb testing.TB, mediaType string, raw []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch {
	case strings.HasSuffix(mediaType, ".tar"):
		return raw
	case strings.HasSuffix(mediaType, "zstd"):
		z, err := zstd.NewWriter(&b)
		if err != nil {
			tb.Fatal(err)
		}
		w = z
	default:
		w = gzip.NewWriter(&b)
	}
	if _, err := w.Write(raw); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// layer stores a layer.
func (s *server) layer(tb testing.TB, repository, seed, mediaType string) layer {
	tb.Helper()
	raw := content(tb, seed)
	return layer{s.blob(repository, mediaType, pack(tb, mediaType, raw)), digest.FromBytes(raw)}
}

// layers stores n layers of OCI's usual type.
func (s *server) layers(tb testing.TB, repository, seed string, n int) []layer {
	tb.Helper()
	var out []layer
	for i := range n {
		out = append(out, s.layer(tb, repository, fmt.Sprint(seed, " ", i), ocispec.MediaTypeImageLayerGzip))
	}
	return out
}

// built is an image before its manifest is stored, so that a test can spoil it.
type built struct {
	config   ocispec.Image
	manifest ocispec.Manifest
}

// build makes configuration and manifest of an image, and stores the configuration.
func (s *server) build(tb testing.TB, repository, platform string, layers []layer) built {
	tb.Helper()
	var b built
	p, err := platforms.Parse(platform)
	if err != nil {
		tb.Fatal(err)
	}
	b.config.Platform = p
	b.config.RootFS.Type = "layers"
	b.manifest = ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	for _, l := range layers {
		b.config.RootFS.DiffIDs = append(b.config.RootFS.DiffIDs, l.diffID)
		b.manifest.Layers = append(b.manifest.Layers, l.Descriptor)
	}
	b.store(tb, s, repository)
	return b
}

// store stores the configuration as it is now.
func (b *built) store(tb testing.TB, s *server, repository string) {
	tb.Helper()
	raw, err := json.Marshal(b.config)
	if err != nil {
		tb.Fatal(err)
	}
	b.manifest.Config = s.blob(repository, ocispec.MediaTypeImageConfig, raw)
}

// image stores an image of n layers.
func (s *server) image(tb testing.TB, repository, tag, platform string, n int) (built, ocispec.Descriptor) {
	tb.Helper()
	b := s.build(tb, repository, platform, s.layers(tb, repository, repository+tag+platform, n))
	d := s.manifest(tb, repository, tag, ocispec.MediaTypeImageManifest, b.manifest)
	p := b.config.Platform
	d.Platform = &p
	return b, d
}

// index stores an index.
func (s *server) index(tb testing.TB, repository, tag string, entries ...ocispec.Descriptor) ocispec.Descriptor {
	tb.Helper()
	return s.manifest(tb, repository, tag, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries,
	})
}

// newChecker makes a Checker that is gone with the test.
func newChecker(tb testing.TB, o Options) *Checker {
	tb.Helper()
	c, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// parse reads platforms.
func parse(tb testing.TB, all ...string) []platforms.Platform {
	tb.Helper()
	var out []platforms.Platform
	for _, s := range all {
		p, err := platforms.Parse(s)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// user is a credential for a pattern.
func user(pattern, name, password string) keychain.Credential {
	return keychain.New(pattern, authn.AuthConfig{Username: name, Password: password})
}
