package resolve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a registry in this process that writes down what it is asked.
type server struct {
	*httptest.Server
	store http.Handler // go-containerregistry's registry, without what stands in front

	mu       sync.Mutex // guards requests
	requests []string   // "GET /v2/app/manifests/v1"
	headers  []http.Header
}

// front decides about a request before the registry sees it; true means it answered.
type front func(w http.ResponseWriter, r *http.Request) bool

func newServer(t *testing.T, fronts ...front) *server {
	t.Helper()
	s := unstarted(fronts...)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func unstarted(fronts ...front) *server {
	s := &server{store: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note(r)
		for _, f := range fronts {
			if f(w, r) {
				return
			}
		}
		s.store.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

func (s *server) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	s.headers = append(s.headers, r.Header.Clone())
}

// took gives the requests since the last call.
func (s *server) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests, s.headers = nil, nil
	return out
}

// count gives the number of requests so far whose line has the prefix.
func (s *server) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// sent gives the values of a header over all requests, without empty ones.
func (s *server) sent(header string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, h := range s.headers {
		if v := h.Get(header); v != "" {
			out = append(out, v)
		}
	}
	return out
}

func (s *server) addr() string { return s.Listener.Addr().String() }

// push puts an image or index into the store, past fronts and counts.
func (s *server) push(t *testing.T, where string, what remote.Taggable) digest.Digest {
	t.Helper()
	direct := httptest.NewServer(s.store)
	defer direct.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(direct.URL, "http://")+"/"+where, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	switch what := what.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, what, remote.WithTransport(transport))
	case v1.Image:
		err = remote.Write(ref, what, remote.WithTransport(transport))
	default:
		err = remote.Put(ref, what, remote.WithTransport(transport))
	}
	if err != nil {
		t.Fatalf("pushing %s: %v", where, err)
	}
	raw, err := what.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.FromBytes(raw)
}

// rawManifest is anything that can be pushed as a manifest.
type rawManifest struct {
	body      string
	mediaType types.MediaType
}

func (m rawManifest) RawManifest() ([]byte, error)        { return []byte(m.body), nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }

// image builds an image of n layers for "os/arch[/variant]".
func image(t *testing.T, platform string, n int64) v1.Image {
	t.Helper()
	img, err := random.Image(512, n)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	p := parsePlatform(t, platform)
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// parsePlatform does not normalise.
func parsePlatform(t *testing.T, s string) v1.Platform {
	t.Helper()
	p, err := v1.ParsePlatform(s)
	if err != nil {
		t.Fatal(err)
	}
	return *p
}

// entryOf makes an index entry that states the platform.
func entryOf(t *testing.T, what mutate.Appendable, platform string) mutate.IndexAddendum {
	t.Helper()
	add := mutate.IndexAddendum{Add: what}
	if platform != "" {
		add.Platform = new(parsePlatform(t, platform))
	}
	return add
}

// indexOf builds an index of images of two layers, one for each platform.
func indexOf(t *testing.T, platforms ...string) v1.ImageIndex {
	t.Helper()
	var adds []mutate.IndexAddendum
	for _, p := range platforms {
		adds = append(adds, entryOf(t, image(t, p, 2), p))
	}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), adds...)
}

// names maps host names to servers; a resolver in a test reaches nothing else.
type names map[string]*server

func (n names) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s := n[host]
	if s == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	var d net.Dialer
	return d.DialContext(ctx, network, s.addr())
}

// plain are settings with the hosts spoken to over plain HTTP.
func plain(hosts ...string) access.Settings {
	return access.Settings{Registries: []access.Registry{{Hosts: hosts, PlainHTTP: true}}}
}

func newResolver(t *testing.T, settings access.Settings, hosts names) *Resolver {
	t.Helper()
	r, err := New(settings, access.WithDial(hosts.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// one gives a registry "registry.test" over plain HTTP and a resolver for it.
func one(t *testing.T, fronts ...front) (*server, *Resolver) {
	t.Helper()
	s := newServer(t, fronts...)
	return s, newResolver(t, plain("registry.test"), names{"registry.test": s})
}

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return r
}

// user is a credential for a pattern.
func user(pattern, username, password string) keychain.Credential {
	return keychain.New(pattern, authn.AuthConfig{Username: username, Password: password})
}

// anonymous has no credentials.
var anonymous = keychain.Keychain{}

func node(t *testing.T, s string) platforms.Platform {
	t.Helper()
	p, err := platforms.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// authority is a CA for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test CA"},
		NotBefore:             time.Now().Add(-48 * time.Hour),
		NotAfter:              time.Now().Add(48 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, file: file}
}

// serve starts a TLS registry whose certificate is for host and valid around a time.
func (a *authority) serve(t *testing.T, host string, at time.Time, fronts ...front) *server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		DNSNames:     []string{host},
		NotBefore:    at.Add(-time.Hour),
		NotAfter:     at.Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	s := unstarted(fronts...)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}
