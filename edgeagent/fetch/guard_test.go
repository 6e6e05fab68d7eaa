package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/internal/dialguard"
)

// inside is a service on this machine that no registry should reach. It answers as token
// server and as blob store.
func inside(t *testing.T, blobs *fetchtest.Registry) (address string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if strings.HasPrefix(r.URL.Path, "/token") {
			fmt.Fprint(w, `{"token":"t","access_token":"t","expires_in":300}`)
			return
		}
		_, _ = w.Write(blobs.Blob(digest.Digest(path.Base(r.URL.Path))))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

// challenge sends clients to a realm until they come with a token.
func challenge(realm string) fetchtest.Faults {
	return fetchtest.Faults{Before: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}}
}

// TestHostileRegistry: whatever a registry names, the node connects to nothing that is its
// own or the cloud's. The control is the same pull without the guard.
func TestHostileRegistry(t *testing.T) {
	t.Parallel()
	layer := fetchtest.Layer(t, 1, 50_000)
	tests := map[string]struct {
		faults func(inside string) fetchtest.Faults
		want   string // in the error
	}{
		"a token server at this machine": {func(inside string) fetchtest.Faults { return challenge("http://" + inside + "/token") }, "loopback"},
		"a token server by name": {func(inside string) fetchtest.Faults {
			_, port, _ := net.SplitHostPort(inside)
			return challenge("http://localhost:" + port + "/token")
		}, "localhost"},
		"a redirect to this machine": {func(inside string) fetchtest.Faults { return fetchtest.Faults{Redirect: "http://" + inside + "/blob"} }, "loopback"},
		"a redirect by name": {func(inside string) fetchtest.Faults {
			_, port, _ := net.SplitHostPort(inside)
			return fetchtest.Faults{Redirect: "http://localhost:" + port + "/blob"}
		}, "localhost"},
	}
	for name, tc := range tests {
		for _, guarded := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, guarded %t", name, guarded), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, layer))
				address, asked := inside(t, f.reg)
				f.reg.Set(tc.faults(address))
				if guarded {
					f.opts.DialContext = dialguard.New(dialguard.Options{}).DialContext
				}
				_, err := f.pull(t, d)
				if !guarded {
					if asked.Load() == 0 {
						t.Fatalf("the control was not led there either: %v", err)
					}
					return
				}
				if e := reason(t, err, fetch.RegistryError); e.Transient() || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "allowedHosts") {
					t.Errorf("error %v, want one for good that names %s and allowedHosts", err, tc.want)
				}
				if asked.Load() != 0 {
					t.Errorf("the service inside was asked %d times", asked.Load())
				}
			})
		}
	}
}

// TestMetadataService is the address that hostile registries ask for. No connection is
// tried, so the test needs no such network.
func TestMetadataService(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
	f.opts.DialContext = dialguard.New(dialguard.Options{}).DialContext
	f.reg.Set(challenge("http://169.254.169.254/latest/meta-data/iam/security-credentials/"))
	_, err := f.pull(t, d)
	if e := reason(t, err, fetch.RegistryError); !strings.Contains(err.Error(), "169.254.169.254") || !strings.Contains(err.Error(), "link-local") || strings.Contains(err.Error(), "iam") {
		t.Errorf("error %v", e)
	}
}

// TestGuardTrustsWhatIsConfigured: the registry of the image, its mirrors, and hosts that
// the settings list are reached on loopback, too.
func TestGuardTrustsWhatIsConfigured(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mirror := fetchtest.NewRegistry(t)
	want := f.behind(t, f.reg.Host, mirror)
	layer := fetchtest.Layer(t, 1, 50_000)
	img := fetchtest.Image(t, node, layer)
	want.Digest = f.reg.Push(t, "app:v1", img)
	mirror.Push(t, "app:v1", img)
	mirror.Set(fetchtest.Faults{Status: http.StatusNotFound, Only: "/blobs/"}) // the registry is asked, too
	address, asked := inside(t, f.reg)
	f.reg.Set(fetchtest.Faults{Redirect: "http://" + address + "/blob"})
	f.opts.DialContext = dialguard.New(dialguard.Options{Trusted: []string{address}}).DialContext
	if _, err := f.puller(fetch.Options{}).Image(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	if len(mirror.Requests()) == 0 || asked.Load() == 0 {
		t.Errorf("the mirror was asked %d times, the listed host %d times", len(mirror.Requests()), asked.Load())
	}
}

// TestRefusedDialIsNoNetworkError: the agent does not wait for a link that is there.
func TestRefusedDialIsNoNetworkError(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
	f.opts.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialguard.New(dialguard.Options{}).DialContext(dialguard.Trust(ctx), network, address)
	}
	_, err := f.pull(t, d)
	_ = reason(t, err, fetch.RegistryError)
	if _, ok := errors.AsType[*dialguard.RefusedError](err); !ok {
		t.Errorf("error %v does not say what was refused", err)
	}
}
