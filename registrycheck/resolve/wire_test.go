package resolve

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/access"
)

// mirrored gives a registry with one mirror "mirror.test/hub" in front.
func mirrored(t *testing.T, fronts ...front) (origin, mirror *server, r *Resolver) {
	t.Helper()
	origin, mirror = newServer(t), newServer(t, fronts...)
	settings := access.Settings{
		Registries: []access.Registry{{Hosts: []string{"registry.test"}, PlainHTTP: true, Mirrors: []string{"http://mirror.test/hub"}}},
		Timeout:    4 * time.Second,
	}
	return origin, mirror, newResolver(t, settings, names{"registry.test": origin, "mirror.test": mirror})
}

func TestMirrorIsAskedFirst(t *testing.T) {
	t.Parallel()
	origin, mirror, r := mirrored(t)
	index := indexOf(t, "linux/amd64", "linux/arm64")
	want := mirror.push(t, "hub/team/app:v1", index)
	got, err := r.Resolve(t.Context(), ref(t, "registry.test/team/app:v1"), anonymous)
	if err != nil || got.Digest != want || got.Host != "mirror.test" || got.Reference.String() != "registry.test/team/app:v1" {
		t.Fatalf("Resolve = %+v, %v", got, err)
	}
	if reqs := origin.took(); len(reqs) != 0 {
		t.Errorf("origin got %q", reqs)
	}
	if diff := cmp.Diff([]string{"GET /v2/", "GET /v2/hub/team/app/manifests/v1?ns=registry.test"}, mirror.took()[:2]); diff != "" {
		t.Errorf("mirror (-want +got):\n%s", diff)
	}
}

func TestMirrorFailsOver(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	tests := map[string]front{
		"has not the image": func(http.ResponseWriter, *http.Request) bool { return false },
		"refuses":           on("/v2/", status(403, "DENIED")),
		"is down":           on("/v2/", status(502)),
		"is over its quota": on("/manifests/", status(429)),
		"hangs":             on("/v2/", hang),
		"hangs later":       on("/blobs/", hang),
		"has half of it":    on("/blobs/", status(404, "BLOB_UNKNOWN")),
		"holds nonsense":    on("/manifests/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }),
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin, mirror, r := mirrored(t, fault)
			index := indexOf(t, "linux/amd64")
			want := origin.push(t, "app:v1", index)
			if name != "has not the image" {
				mirror.push(t, "hub/app:v1", index)
			}
			got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
			if err != nil || got.Digest != want || got.Host != "registry.test" {
				t.Errorf("Resolve = %s from %q, %v, want %s", got.Digest, got.Host, err, want)
			}
			if len(mirror.took()) == 0 {
				t.Error("mirror was not asked")
			}
		})
	}
}

func TestMirrorThatLiesEndsIt(t *testing.T) {
	t.Parallel()
	origin, _, r := mirrored(t, on("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"schemaVersion":2,"layers":[]}`))
	}))
	d := origin.push(t, "app:v1", image(t, "linux/amd64", 1))
	_, err := r.Resolve(t.Context(), ref(t, "registry.test/app").WithDigest(d), anonymous)
	e := judged(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonDigestMismatch, "mirror.test sent other bytes")
	if e.Host != "mirror.test" || len(origin.took()) != 0 {
		t.Errorf("Host = %q; the registry must not be asked", e.Host)
	}
}

// TestAllFail: the registry's own answer is the verdict, the mirror's is named.
func TestAllFail(t *testing.T) {
	t.Parallel()
	_, _, r := mirrored(t, on("/v2/", status(502)))
	_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	e := judged(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonNotFound, "registry.test has no registry.test/app:v1 (404)")
	if !strings.HasSuffix(e.Message, "; mirror mirror.test: RegistryError") || e.Host != "registry.test" {
		t.Errorf("message %q of %q", e.Message, e.Host)
	}
}

// TestDeadMirrorLeavesTime: of 4 s, three endpoints that hang get a third each.
func TestDeadMirrorLeavesTime(t *testing.T) {
	t.Parallel()
	black, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = black.Close() })
	origin := newServer(t)
	settings := access.Settings{
		Registries: []access.Registry{{Hosts: []string{"registry.test"}, PlainHTTP: true, Mirrors: []string{"http://dead.test", "http://dead.test/two"}}},
		Timeout:    4 * time.Second,
	}
	hosts := names{"registry.test": origin}
	r, err := New(settings, access.WithDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "dead.test") {
			var d net.Dialer
			return d.DialContext(ctx, network, black.Addr().String())
		}
		return hosts.dial(ctx, network, address)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	want := origin.push(t, "app:v1", image(t, "linux/amd64", 1))
	if got, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous); err != nil || got != want {
		t.Errorf("Digest = %s, %v, want %s", got, err, want)
	}
}

func TestDockerHubGoesToItsRegistry(t *testing.T) {
	t.Parallel()
	hub := newServer(t)
	settings := access.Settings{Registries: []access.Registry{{Hosts: []string{"docker.io"}, PlainHTTP: true}}}
	r := newResolver(t, settings, names{"registry-1.docker.io": hub})
	want := hub.push(t, "library/nginx:1.27", image(t, "linux/amd64", 1))
	got, err := r.Resolve(t.Context(), ref(t, "nginx:1.27"), anonymous)
	if err != nil || got.Digest != want {
		t.Fatalf("Resolve = %s, %v, want %s", got.Digest, err, want)
	}
	if diff := cmp.Diff([]string{"docker.io/library/nginx"}, got.Content().Repositories); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	s := ca.serve(t, "registry.test", time.Now())
	want := s.push(t, "app:v1", indexOf(t, "linux/amd64", "linux/arm64"))
	trusting := access.Settings{Registries: []access.Registry{{Hosts: []string{"*.test"}, CAFile: ca.file}}}
	r := newResolver(t, trusting, names{"registry.test": s})
	if got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous); err != nil || got.Digest != want {
		t.Errorf("Resolve = %s, %v, want %s", got.Digest, err, want)
	}

	late := ca.serve(t, "late.test", time.Now().Add(-24*time.Hour))
	early := ca.serve(t, "early.test", time.Now().Add(24*time.Hour))
	unencrypted := newServer(t)
	tests := map[string]struct {
		settings access.Settings
		host     string
		hosts    names
		message  string
	}{
		"unknown CA":            {access.Settings{}, "registry.test", names{"registry.test": s}, "certificate of registry.test is signed by a CA that is not trusted: name the CA as caFile"},
		"CA of another entry":   {access.Settings{Registries: []access.Registry{{Hosts: []string{"other.test"}, CAFile: ca.file}}}, "registry.test", names{"registry.test": s}, "not trusted"},
		"other name":            {trusting, "other.test", names{"other.test": s}, "certificate is not for other.test"},
		"expired":               {trusting, "late.test", names{"late.test": late}, "expired or not yet valid (current time"},
		"not yet valid":         {trusting, "early.test", names{"early.test": early}, "set the clock of this machine"},
		"plain HTTP":            {access.Settings{}, "registry.test", names{"registry.test": unencrypted}, "registry.test speaks plain HTTP: set plainHTTP"},
		"private address, HTTP": {access.Settings{}, "10.9.8.7:5000", names{"10.9.8.7": unencrypted}, "10.9.8.7:5000 speaks plain HTTP: set plainHTTP"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newResolver(t, tc.settings, tc.hosts)
			_, err := r.Digest(t.Context(), ref(t, tc.host+"/app:v1"), anonymous)
			e := judged(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonTLSError, tc.message)
			if e.Host != tc.host {
				t.Errorf("Host = %q, want %q", e.Host, tc.host)
			}
		})
	}
	t.Run("wants a client certificate", func(t *testing.T) {
		t.Parallel()
		s := ca.serve(t, "registry.test", time.Now())
		s.TLS.ClientAuth = tls.RequireAnyClientCert
		r := newResolver(t, trusting, names{"registry.test": s})
		_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
		wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonTLSError, "registry.test refuses TLS (tls: certificate required)")
	})
	t.Run("speaks something else", func(t *testing.T) {
		t.Parallel()
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n")
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		}()
		r := newResolver(t, trusting, names{"registry.test": {Server: &httptest.Server{Listener: l}}})
		_, err = r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
		wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonTLSError, "registry.test does not speak TLS (first record does not look like a TLS handshake): check host, port and proxy")
	})
	t.Run("plain HTTP asked, TLS spoken", func(t *testing.T) {
		t.Parallel()
		r := newResolver(t, plain("registry.test"), names{"registry.test": s})
		_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
		wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonRegistryError, "400")
	})
}

// TestPrivateAddressesAreNotAskedInPlain: go-containerregistry alone would, and a
// container runtime would not.
func TestPrivateAddressesAreNotAskedInPlain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	r := newResolver(t, access.Settings{}, names{"192.168.7.7": s})
	if _, err := r.Digest(t.Context(), ref(t, "192.168.7.7:5000/app:v1"), anonymous); err == nil {
		t.Error("asked over plain HTTP without being told to")
	}
	if reqs := s.took(); len(reqs) != 0 {
		t.Errorf("server got %q", reqs)
	}
	allowed := newResolver(t, plain("192.168.7.7:5000"), names{"192.168.7.7": s})
	if _, err := allowed.Digest(t.Context(), ref(t, "192.168.7.7:5000/app:v1"), anonymous); err != nil {
		t.Error(err)
	}
}

// TestLoopbackNeedsNoSettings, as in container runtimes: TLS first, then plain HTTP.
func TestLoopbackNeedsNoSettings(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	want := s.push(t, "app:v1", image(t, "linux/amd64", 1))
	r, err := New(access.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	for _, host := range []string{s.addr(), "localhost:" + s.addr()[strings.LastIndex(s.addr(), ":")+1:]} {
		if got, err := r.Digest(t.Context(), ref(t, host+"/app:v1"), anonymous); err != nil || got != want {
			t.Errorf("Digest from %s = %s, %v, want %s", host, got, err, want)
		}
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to := func(location string) front {
		return on("/blobs/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, location, http.StatusFound) })
	}
	tests := map[string]struct {
		location string
		reason   string
		message  string
	}{
		"loop":                 {"/v2/app/blobs/again", v1alpha1.ReasonRegistryError, "redirect to registry.test: too many redirects"},
		"metadata service":     {"https://169.254.169.254/latest?s1gned", v1alpha1.ReasonRegistryError, "redirect to 169.254.169.254: address is local to this machine"},
		"loopback":             {"https://127.0.0.1:1/", v1alpha1.ReasonRegistryError, "address is local"},
		"localhost":            {"https://localhost:1/", v1alpha1.ReasonRegistryError, "address is local"},
		"mapped loopback":      {"https://[::ffff:127.0.0.1]:1/", v1alpha1.ReasonRegistryError, "address is local"},
		"unspecified":          {"https://0.0.0.0:1/", v1alpha1.ReasonRegistryError, "address is local"},
		"plain HTTP":           {"http://store.test/?s1gned", v1alpha1.ReasonTLSError, "store.test would be asked without TLS"},
		"host not there":       {"https://absent.test/?s1gned", v1alpha1.ReasonNetworkError, "host absent.test is not known to DNS"},
		"scheme nobody speaks": {"ftp://store.test/", v1alpha1.ReasonRegistryError, "makes no sense"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ca.serve(t, "registry.test", time.Now(), to(tc.location))
			s.push(t, "app:v1", image(t, "linux/amd64", 1))
			r := newResolver(t, access.Settings{Registries: []access.Registry{{Hosts: []string{"registry.test"}, CAFile: ca.file}}}, names{"registry.test": s})
			_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
			wantError(t, err, v1alpha1.VerdictInconclusive, tc.reason, tc.message)
		})
	}
	t.Run("followed to a store with the registry's CA", func(t *testing.T) {
		t.Parallel()
		img := image(t, "linux/amd64", 1)
		store := ca.serve(t, "store.test", time.Now())
		store.push(t, "app:v1", img)
		s := ca.serve(t, "registry.test", time.Now(), on("/blobs/", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://store.test"+r.URL.Path, http.StatusTemporaryRedirect)
		}))
		s.push(t, "app:v1", img)
		r := newResolver(t, access.Settings{Registries: []access.Registry{{Hosts: []string{"registry.test"}, CAFile: ca.file}}}, names{"registry.test": s, "store.test": store})
		if _, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous); err != nil {
			t.Error(err)
		}
	})
}

// proxy is a forward proxy with CONNECT that counts and may want a password.
type proxy struct {
	*httptest.Server
	hosts             names
	password          string
	connects, forward atomic.Int32
}

func newProxy(t *testing.T, hosts names, password string) *proxy {
	t.Helper()
	p := &proxy{hosts: hosts, password: password}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+p.password))
	if p.password != "" && r.Header.Get("Proxy-Authorization") != want {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method == http.MethodConnect {
		p.connect(w, r)
		return
	}
	p.forward.Add(1)
	transport := &http.Transport{DialContext: p.hosts.dial}
	defer transport.CloseIdleConnections()
	r.RequestURI = ""
	resp, err := transport.RoundTrip(r)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

func (p *proxy) connect(w http.ResponseWriter, r *http.Request) {
	p.connects.Add(1)
	up, err := p.hosts.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	down, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = up.Close()
		return
	}
	_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(up, down); _ = up.Close() }()
	_, _ = io.Copy(down, up)
	_ = down.Close()
}

func TestProxies(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	secure, open := ca.serve(t, "tls.test", time.Now()), newServer(t)
	want := secure.push(t, "app:v1", indexOf(t, "linux/amd64", "linux/arm64"))
	open.push(t, "app:v1", image(t, "linux/amd64", 1))
	hosts := names{"tls.test": secure, "plain.test": open}
	p := newProxy(t, hosts, "pa55")
	proxyURL := strings.Replace(p.URL, "http://", "http://user:pa55@", 1)
	registries := func(proxy string) access.Settings {
		return access.Settings{Registries: []access.Registry{
			{Hosts: []string{"tls.test"}, CAFile: ca.file, Proxy: access.ProxyURL(proxy)},
			{Hosts: []string{"plain.test"}, PlainHTTP: true, Proxy: access.ProxyURL(proxy)},
		}}
	}
	r, err := New(registries(proxyURL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if got, err := r.Resolve(t.Context(), ref(t, "tls.test/app:v1"), anonymous); err != nil || got.Digest != want {
		t.Errorf("Resolve over CONNECT = %s, %v, want %s", got.Digest, err, want)
	}
	if n := p.connects.Load(); n == 0 || n > maxFetches {
		t.Errorf("%d tunnels, want 1 to %d", n, maxFetches)
	}
	if _, err := r.Resolve(t.Context(), ref(t, "plain.test/app:v1"), anonymous); err != nil {
		t.Errorf("Resolve over plain proxy: %v", err)
	}
	if n := p.forward.Load(); n != 1+2 {
		t.Errorf("%d requests forwarded, want 3", n)
	}

	closed := httptest.NewServer(nil)
	closed.Close()
	for name, tc := range map[string]struct{ url, message string }{
		"wrong password": {strings.Replace(p.URL, "http://", "http://user:pa55-bad@", 1), "proxy for tls.test wants a log-in"},
		"not there":      {strings.Replace(closed.URL, "http://", "http://user:pa55@", 1), "proxy for tls.test is not reached (connection refused)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := New(registries(tc.url))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			_, err = r.Digest(t.Context(), ref(t, "tls.test/app:v1"), anonymous)
			wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonNetworkError, tc.message)
		})
	}
}

// TestProxyOfTheEnvironment changes the environment and so runs alone.
func TestProxyOfTheEnvironment(t *testing.T) {
	s := newServer(t)
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	hosts := names{"registry.test": s, "direct.test": s, "excluded.test": s}
	p := newProxy(t, hosts, "")
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_PROXY", "http://proxy.test:"+u.Port())
	t.Setenv("HTTPS_PROXY", "http://proxy.test:"+u.Port())
	t.Setenv("NO_PROXY", "excluded.test")
	settings := plain("registry.test", "excluded.test")
	settings.Registries = append(settings.Registries, access.Registry{Hosts: []string{"direct.test"}, PlainHTTP: true, Proxy: access.ProxyDirect})
	r, err := New(settings, access.WithDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "proxy.test:") {
			var d net.Dialer
			return d.DialContext(ctx, network, p.Listener.Addr().String())
		}
		return hosts.dial(ctx, network, address)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	for host, want := range map[string]int32{"registry.test": 2, "direct.test": 0, "excluded.test": 0} {
		p.forward.Store(0)
		if _, err := r.Digest(t.Context(), ref(t, host+"/app:v1"), anonymous); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if n := p.forward.Load(); n != want {
			t.Errorf("%s: %d requests through the proxy, want %d", host, n, want)
		}
	}
}
