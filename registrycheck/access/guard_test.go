package access

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"edgecache.dev/internal/dialguard"
)

// inside is a service on this machine that no registry should reach. It answers as
// registry, as token server and as blob store.
func inside(t *testing.T) (port string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, `{"token":"t","access_token":"t"}`)
	})
	return portOf(t, s), asked
}

func portOf(t *testing.T, s *httptest.Server) string {
	t.Helper()
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// hostile is a registry that sends its clients elsewhere for tokens or for blobs.
func hostile(t *testing.T, realm, redirect string) *httptest.Server {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case realm != "" && r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s"`, realm))
			w.WriteHeader(http.StatusUnauthorized)
		case redirect != "" && strings.Contains(r.URL.Path, "/blobs/"):
			http.Redirect(w, r, redirect, http.StatusTemporaryRedirect)
		}
	})
}

// request opens a session at a server of this machine and asks it for a blob.
func request(t *testing.T, settings Settings, port string) error {
	t.Helper()
	n, err := New(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return requestOf(t, n, port)
}

func requestOf(t *testing.T, n *Network, port string) error {
	t.Helper()
	s, err := n.Open(t.Context(), endpoint(t, n, "127.0.0.1:"+port+"/app:v1"), authn.Anonymous)
	if err != nil {
		return err
	}
	return ask(t.Context(), s)
}

// TestHostileRegistry: whatever a registry names, nothing on this machine is connected to.
// The control is the same request with the host allowed.
func TestHostileRegistry(t *testing.T) {
	t.Parallel()
	tests := map[string]func(port string) (realm, redirect string){
		"a token server by name":      func(port string) (string, string) { return "http://localhost:" + port + "/token", "" },
		"a redirect by name":          func(port string) (string, string) { return "", "http://localhost:" + port + "/blob" },
		"a redirect to an address":    func(port string) (string, string) { return "", "http://127.0.0.1:" + port + "/blob" },
		"a redirect to IPv6 for IPv4": func(port string) (string, string) { return "", "http://[::ffff:127.0.0.1]:" + port + "/blob" },
	}
	for name, leads := range tests {
		for _, allowed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, allowed %t", name, allowed), func(t *testing.T) {
				t.Parallel()
				port, asked := inside(t)
				settings := Settings{}
				if allowed {
					settings.AllowedHosts = []string{"localhost", "127.0.0.1:" + port, "[::ffff:127.0.0.1]"}
				}
				err := request(t, settings, portOf(t, hostile(t, first(leads(port)), second(leads(port)))))
				_, refused := errors.AsType[*dialguard.RefusedError](err)
				switch {
				case allowed && (err != nil || asked.Load() == 0):
					t.Errorf("asked %d times, error %v", asked.Load(), err)
				case !allowed && (!refused || asked.Load() != 0 || !strings.Contains(err.Error(), "allowedHosts")):
					t.Errorf("asked %d times, error %v, want a refusal that names allowedHosts", asked.Load(), err)
				}
			})
		}
	}
}

func first(a, _ string) string  { return a }
func second(_, b string) string { return b }

// TestMetadataService is the address that hostile registries ask for. Nothing is connected
// to, so the test needs no such network.
func TestMetadataService(t *testing.T) {
	t.Parallel()
	err := request(t, Settings{}, portOf(t, hostile(t, "", "https://169.254.169.254/latest/meta-data/iam/")))
	if refused, ok := errors.AsType[*dialguard.RefusedError](err); !ok || refused.Kind != "link-local" {
		t.Errorf("error %v, want a refusal of what is link-local", err)
	}
}

// TestNoConnectionIsShared: one that was made because a user named a host is not there for a
// registry that names it.
func TestNoConnectionIsShared(t *testing.T) {
	t.Parallel()
	port, asked := inside(t)
	n, err := New(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	if err := requestOf(t, n, port); err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	err = requestOf(t, n, portOf(t, hostile(t, "", "http://127.0.0.1:"+port+"/blob")))
	if _, ok := errors.AsType[*dialguard.RefusedError](err); !ok || asked.Load() != before {
		t.Errorf("asked %d times more, error %v", asked.Load()-before, err)
	}
}

func TestGuardKnowsWhatIsConfigured(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://10.96.0.9:3128")
	guard := Settings{
		GuardedRanges: []string{"10.96.0.0/12"},
		AllowedHosts:  []string{"*.corp.example"},
		Registries: []Registry{
			{Hosts: []string{"registry.example", "10.96.0.1:5000", "*.glob.example"}, Mirrors: []string{"http://mirror.example/hub"}},
			{Hosts: []string{"plain.example"}, PlainHTTP: true, Proxy: "http://user:secret@10.96.0.8:3128"},
			{Hosts: []string{"[fd00::1]:5000"}, Proxy: ProxyDirect},
		},
	}.guard()
	for address, want := range map[string]bool{
		"registry.example:443": true, "registry.example:80": false, "registry.example:6443": false,
		"10.96.0.1:5000": true, "10.96.0.1:443": false, "[fd00::1]:5000": true,
		"a.glob.example:443": false, // says how it is reached, not that it is meant
		"mirror.example:80":  true, "mirror.example:443": false, "plain.example:80": true,
		"auth.corp.example:8443": true, "10.96.0.8:3128": true, "10.96.0.9:3128": true, "direct:80": false,
	} {
		if got := guard.Trusts(address); got != want {
			t.Errorf("%s: trusted %t, want %t", address, got, want)
		}
	}
	_, err := guard.DialContext(t.Context(), "tcp", "10.97.1.2:443")
	if refused, ok := errors.AsType[*dialguard.RefusedError](err); !ok || refused.Kind != "guarded range 10.96.0.0/12" {
		t.Errorf("error %v", err)
	}
}

func TestGuardSettingsAreChecked(t *testing.T) {
	t.Parallel()
	errs := Settings{GuardedRanges: []string{"10.96.0.1/12"}, AllowedHosts: []string{"https://user:secret@auth.example"}}.Validate()
	text := errs.ToAggregate().Error()
	for _, want := range []string{"guardedRanges[0]", "write 10.96.0.0/12", "allowedHosts[0]", "without a scheme"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\ndoes not say %q", text, want)
		}
	}
	if strings.Contains(text, "secret") {
		t.Errorf("%s\nholds a password", text)
	}
}
