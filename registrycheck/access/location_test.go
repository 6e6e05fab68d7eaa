package access

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"

	"edgecache.dev/api/imageref"
)

// listening answers everything, and keeps what was asked for.
type listening struct {
	mu    sync.Mutex
	asked []string
}

func (l *listening) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.asked = append(l.asked, fmt.Sprintf("%s %s %s", r.Method, r.URL, r.Header.Get("X-Site")))
	l.mu.Unlock()
	if r.URL.Path == "/custom/" {
		w.WriteHeader(http.StatusNotFound)
	}
}

// TestLocations: what a node's configuration says of a host is how it is asked.
func TestLocations(t *testing.T) {
	t.Parallel()
	unverified := &Wire{TLS: &tls.Config{InsecureSkipVerify: true}}
	tests := map[string]struct {
		tls  bool
		at   Location
		want []string // nil where it fails
	}{
		"plain HTTP":                 {false, Location{PlainHTTP: true}, []string{"GET /v2/ ", "GET /v2/app/blobs/x "}},
		"a mirror is told for whom":  {false, Location{PlainHTTP: true, Mirror: true, Query: true}, []string{"GET /v2/ ", "GET /v2/app/blobs/x?ns=registry.test "}},
		"or not":                     {false, Location{PlainHTTP: true, Mirror: true}, []string{"GET /v2/ ", "GET /v2/app/blobs/x "}},
		"headers":                    {false, Location{PlainHTTP: true, Wire: &Wire{Header: http.Header{"X-Site": {"lisbon"}}}}, []string{"GET /v2/ lisbon", "GET /v2/app/blobs/x lisbon"}},
		"a root below /v2":           {false, Location{PlainHTTP: true, Root: "/v2/hub/"}, []string{"GET /v2/ ", "GET /v2/hub/app/blobs/x "}},
		"a root elsewhere":           {false, Location{PlainHTTP: true, Root: "/custom"}, []string{"GET /custom/ ", "GET /custom/app/blobs/x "}},
		"a root that is the usual":   {false, Location{PlainHTTP: true, Root: "/v2"}, []string{"GET /v2/ ", "GET /v2/app/blobs/x "}},
		"TLS that is not verified":   {true, Location{Wire: unverified}, []string{"GET /v2/ ", "GET /v2/app/blobs/x "}},
		"either, which has TLS":      {true, Location{EitherWay: true, Wire: unverified}, []string{"GET /v2/ ", "GET /v2/app/blobs/x "}},
		"either, which has none":     {false, Location{EitherWay: true, Wire: unverified}, []string{"GET /v2/ ", "GET /v2/app/blobs/x "}},
		"TLS that cannot be trusted": {true, Location{}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var heard listening
			server := httptest.NewUnstartedServer(&heard)
			if tc.tls {
				server.StartTLS()
			} else {
				server.Start()
			}
			t.Cleanup(server.Close)
			p := tc.at
			p.Host, p.Repository = "mirror.test", "app"
			n, err := New(Settings{}, WithDial(site{"mirror.test": server}.dial), WithLocations(func(imageref.Reference) []Location { return []Location{p} }))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(n.Close)
			if tc.want == nil {
				if _, err := n.Open(t.Context(), endpoint(t, n, "registry.test/app"), authn.Anonymous); err == nil {
					t.Fatal("opened")
				}
				return
			}
			if err := ask(t.Context(), open(t, n, "registry.test/app")); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, heard.asked); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBlockedLocation: nobody is asked.
func TestBlockedLocation(t *testing.T) {
	t.Parallel()
	n, err := New(Settings{}, WithLocations(func(imageref.Reference) []Location {
		return []Location{{Host: "registry.test", Repository: "app", Blocked: "registries.conf blocks it"}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	_, err = n.Open(t.Context(), endpoint(t, n, "registry.test/app"), authn.Anonymous)
	if blocked, ok := errors.AsType[*BlockedError](err); !ok || blocked.Error() != "nothing may be pulled from registry.test: registries.conf blocks it" {
		t.Errorf("error %v", err)
	}
}

// TestLocationsOrSettings: where nothing is said, Settings count.
func TestLocationsOrSettings(t *testing.T) {
	t.Parallel()
	settings := Settings{Registries: []Registry{{Hosts: []string{"registry.test"}, Mirrors: []string{"https://mirror.test"}}}}
	n, err := New(settings, WithLocations(func(ref imageref.Reference) []Location { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	if got := endpoint(t, n, "registry.test/app").Host; got != "mirror.test" {
		t.Errorf("asked first is %s", got)
	}
}
