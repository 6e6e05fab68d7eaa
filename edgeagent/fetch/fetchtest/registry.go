package fetchtest

import (
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
)

// Transfer is one GET of a blob as the registry saw it.
type Transfer struct {
	Blob  digest.Digest
	First int64 // first byte that was asked for
	Sent  int64 // bytes that were written to the connection
}

// Registry is a registry under the test's control. Its zero Faults serve everything.
type Registry struct {
	// Host is where it listens, such as "127.0.0.1:34567".
	Host string

	server *httptest.Server
	inner  http.Handler

	mu        sync.Mutex // guards what follows
	faults    Faults
	cuts      int // transfers still to cut
	blobs     map[digest.Digest][]byte
	transfers []*Transfer
	requests  []*http.Request // headers and URLs only
}

// NewRegistry starts a registry over plain HTTP that ends with the test.
func NewRegistry(tb testing.TB) *Registry {
	tb.Helper()
	return start(tb, func(s *httptest.Server) {
		// Not 127.0.0.1: the kernel gives a port again soon, and a runtime that outlives
		// the registry would take images of the next one for images of this one.
		address := fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
		if l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", address); err == nil {
			_ = s.Listener.Close()
			s.Listener = l
		} // else this system has no such addresses
		s.Start()
	})
}

// NewTLSRegistry starts a registry over HTTPS with a certificate that only a client that
// trusts CertPEM accepts.
func NewTLSRegistry(tb testing.TB) *Registry {
	tb.Helper()
	return start(tb, (*httptest.Server).StartTLS)
}

func start(tb testing.TB, serve func(*httptest.Server)) *Registry {
	tb.Helper()
	r := &Registry{
		inner: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		blobs: map[digest.Digest][]byte{},
	}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	serve(r.server)
	r.Host = r.server.Listener.Addr().String()
	tb.Cleanup(func() {
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// Certificate gives the certificate of a registry over HTTPS, in DER.
func (r *Registry) Certificate() []byte { return r.server.Certificate().Raw }

// Ref gives the reference of a repository and tag ("app:v1") in this registry.
func (r *Registry) Ref(tb testing.TB, s string) imageref.Reference {
	tb.Helper()
	ref, err := imageref.Parse(r.Host + "/" + s)
	if err != nil {
		tb.Fatal(err)
	}
	return ref
}

// Push puts an image or index under "app:v1" and gives its digest.
func (r *Registry) Push(tb testing.TB, ref string, what interface{ Digest() (v1.Hash, error) }) digest.Digest {
	tb.Helper()
	tag, err := name.NewTag(r.Host+"/"+ref, name.Insecure)
	if err != nil {
		tb.Fatal(err)
	}
	// Past the handler and TLS: faults and counts are for the client under test.
	transport := remote.WithTransport(roundTripper{r.inner})
	switch what := what.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(tag, what, transport)
	case v1.Image:
		err = remote.Write(tag, what, transport)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return Digest(tb, what)
}

// roundTripper calls a handler without a network.
type roundTripper struct{ http.Handler }

func (rt roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	served := req.Clone(req.Context())
	if served.Body == nil {
		served.Body = http.NoBody // as net/http gives it to handlers
	}
	rec := httptest.NewRecorder()
	rt.ServeHTTP(rec, served)
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

// HostsDir makes a directory like /etc/containerd/certs.d in which hosts.toml for this
// registry's host has the given content; "" is plain HTTP without anything else.
func (r *Registry) HostsDir(tb testing.TB, toml string) string {
	tb.Helper()
	if toml == "" {
		toml = "server = \"http://" + r.Host + "\"\n"
	}
	root := tb.TempDir()
	WriteHosts(tb, root, r.Host, toml)
	return root
}

// WriteHosts writes the hosts.toml of a registry under root.
func WriteHosts(tb testing.TB, root, registry, toml string) {
	tb.Helper()
	dir := filepath.Join(root, registry)
	if host, port, ok := strings.Cut(registry, ":"); ok {
		dir = filepath.Join(root, host+"_"+port+"_") // as containerd spells it
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(toml), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// Set replaces the faults, from the next request on.
func (r *Registry) Set(f Faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults, r.cuts = f, f.Cuts
	if f.Cuts == 0 {
		r.cuts = math.MaxInt
	}
}

// Transfers gives the GETs of blobs so far, in order. Those of one blob only, where one is
// given.
func (r *Registry) Transfers(of ...digest.Digest) []Transfer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Transfer
	for _, tr := range r.transfers {
		if len(of) == 0 || tr.Blob == of[0] {
			out = append(out, *tr)
		}
	}
	return out
}

// Sent gives the bytes of blobs that the registry wrote so far.
func (r *Registry) Sent(of ...digest.Digest) (n int64) {
	for _, tr := range r.Transfers(of...) {
		n += tr.Sent
	}
	return n
}

// Requests gives the requests so far: method, URL and header.
func (r *Registry) Requests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*http.Request(nil), r.requests...)
}

// Forget forgets transfers and requests.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.transfers, r.requests = nil, nil
}

// Blob gives the bytes of a blob as they were pushed, nil when there is none.
func (r *Registry) Blob(d digest.Digest) []byte {
	r.mu.Lock()
	b, ok := r.blobs[d]
	r.mu.Unlock()
	if ok {
		return b
	}
	// The inner registry keeps blobs by digest; any repository name will do.
	rec := httptest.NewRecorder()
	r.inner.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v2/any/blobs/"+d.String(), nil))
	if rec.Code != http.StatusOK {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[d] = rec.Body.Bytes()
	return r.blobs[d]
}
