package fetch_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

func TestDigestOfTag(t *testing.T) {
	t.Parallel()
	const body = `{"schemaVersion": 2}`
	want := digest.FromString(body)
	named := func(w http.ResponseWriter, r *http.Request, name string) {
		w.Header().Set("Docker-Content-Digest", name)
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(body))
		}
	}
	tests := map[string]struct {
		handler http.HandlerFunc
		want    string // digest or reason
		methods string
	}{
		"the registry names it":       {func(w http.ResponseWriter, r *http.Request) { named(w, r, want.String()) }, want.String(), "HEAD"},
		"the registry names none":     {func(w http.ResponseWriter, r *http.Request) { named(w, r, "") }, want.String(), "HEAD GET"},
		"the registry names nonsense": {func(w http.ResponseWriter, r *http.Request) { named(w, r, "sha256:../x") }, want.String(), "HEAD GET"},
		"the registry has another algorithm": {func(w http.ResponseWriter, r *http.Request) {
			named(w, r, digest.SHA512.FromString(body).String())
		}, want.String(), "HEAD GET"},
		"the registry does not know HEAD": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			named(w, r, "")
		}, want.String(), "HEAD GET"},
		"no such tag":    {http.NotFound, "NotFound", "HEAD"},
		"server trouble": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "RegistryError", "HEAD"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var methods []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v2/pos/till/manifests/v1" || !strings.Contains(r.Header.Get("Accept"), "image.index") {
					t.Errorf("asked %s with Accept %q", r.URL.Path, r.Header.Get("Accept"))
				}
				methods = append(methods, r.Method)
				tc.handler(w, r)
			}))
			defer server.Close()
			host := strings.TrimPrefix(server.URL, "http://")
			got, err := fetch.NewRegistry(fetch.RegistryOptions{}).Digest(t.Context(), mustRef(t, host+"/pos/till:v1"))
			if e, ok := errors.AsType[*fetch.Error](err); ok {
				got = digest.Digest(e.Reason)
			}
			if got.String() != tc.want || strings.Join(methods, " ") != tc.methods {
				t.Errorf("got %s (%v) with %v, want %s with %s", got, err, methods, tc.want, tc.methods)
			}
		})
	}
}

func TestDigestOfTagFromWhoMaySay(t *testing.T) {
	t.Parallel()
	reg, mirror := fetchtest.NewRegistry(t), fetchtest.NewRegistry(t)
	want, _ := simple(t, reg)
	mirror.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 2, 10)))
	root := t.TempDir()
	config := func(capabilities string) {
		fetchtest.WriteHosts(t, root, reg.Host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\ncapabilities = [%s]\n", reg.Host, mirror.Host, capabilities))
	}
	ask := func(name imageref.Reference) digest.Digest {
		t.Helper()
		d, err := fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{root}}).Digest(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	config(`"pull"`)
	if got := ask(reg.Ref(t, "app:v1")); got != want || len(mirror.Requests()) != 0 {
		t.Errorf("got %s, want %s; a mirror that may not say was asked %d times", got, want, len(mirror.Requests()))
	}
	config(`"pull", "resolve"`)
	if got := ask(reg.Ref(t, "app:v1")); got == want {
		t.Error("a mirror that may say was not asked")
	}
}
