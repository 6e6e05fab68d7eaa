package fetch_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

// simple pushes an image of one layer and gives its digest and the layer's.
func simple(t *testing.T, reg *fetchtest.Registry) (image, layer digest.Digest) {
	t.Helper()
	l := fetchtest.Layer(t, 1, 100_000)
	return reg.Push(t, "app:v1", fetchtest.Image(t, node, l)), fetchtest.Digest(t, l)
}

// behind configures upstream, a registry nobody reaches, with mirrors before it.
func (f *fixture) behind(t *testing.T, upstream string, mirrors ...*fetchtest.Registry) fetch.Want {
	t.Helper()
	toml := fmt.Sprintf("server = \"http://%s\"\n", upstream)
	var hosts strings.Builder
	for _, m := range mirrors {
		fmt.Fprintf(&hosts, "[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", m.Host)
	}
	root := t.TempDir()
	fetchtest.WriteHosts(t, root, upstream, toml+hosts.String())
	f.opts.HostsDirs = []string{root}
	w := f.want(t, "")
	w.Name = mustRef(t, upstream+"/app:v1")
	return w
}

func TestMirrorComesFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mirror, second := fetchtest.NewRegistry(t), fetchtest.NewRegistry(t)
	want := f.behind(t, f.reg.Host, mirror, second)
	want.Digest, _ = simple(t, f.reg)
	simple(t, second)
	if _, err := f.puller(fetch.Options{}).Image(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	if len(f.reg.Requests()) != 0 || second.Sent() == 0 {
		t.Errorf("upstream was asked %d times, the second mirror sent %d bytes", len(f.reg.Requests()), second.Sent())
	}
	for _, req := range append(mirror.Requests(), second.Requests()...) {
		if got := req.URL.Query().Get("ns"); got != f.reg.Host {
			t.Errorf("%s has ns=%q, want %q", req.URL, got, f.reg.Host)
		}
		if got := req.Header.Get("User-Agent"); got != "edgecache-agent/unknown" {
			t.Errorf("User-Agent = %q", got)
		}
	}
}

func TestUpstreamSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mirror := fetchtest.NewRegistry(t)
	want := f.behind(t, f.reg.Host, mirror)
	want.Digest, _ = simple(t, f.reg)
	f.reg.Set(fetchtest.Faults{Status: 403})
	_, err := f.puller(fetch.Options{}).Image(t.Context(), want, nil)
	if e := reason(t, err, fetch.Unauthorized); e.Host != f.reg.Host {
		t.Errorf("host = %q, want %q: the mirror only lacks the image", e.Host, f.reg.Host)
	}
	if n := len(mirror.Requests()); n != 1 {
		t.Errorf("mirror was asked %d times, want once", n)
	}
	for _, req := range f.reg.Requests() {
		if req.URL.RawQuery != "" {
			t.Errorf("upstream was sent %q", req.URL.RawQuery)
		}
	}
}

func TestLyingMirrorIsLeftOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mirror := fetchtest.NewRegistry(t)
	want := f.behind(t, f.reg.Host, mirror)
	d, layer := simple(t, f.reg)
	want.Digest = d
	simple(t, mirror)
	mirror.Set(fetchtest.Faults{Lie: layer})
	if _, err := f.puller(fetch.Options{}).Image(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	f.has(t, layer)
	if n, m := len(f.reg.Transfers(layer)), len(mirror.Transfers(layer)); n != 1 || m != 1 {
		t.Errorf("registry asked %d times, mirror %d times, want once each", n, m)
	}
}

func TestDeadMirrorCostsNothingButTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	want := f.behind(t, f.reg.Host, &fetchtest.Registry{Host: dead.Listener.Addr().String()})
	want.Digest, _ = simple(t, f.reg)
	if _, err := f.puller(fetch.Options{}).Image(t.Context(), want, nil); err != nil {
		t.Error(err)
	}
}

func TestFirstHostsDirThatKnowsTheHostWins(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mirror := fetchtest.NewRegistry(t)
	want := f.behind(t, f.reg.Host, mirror)
	want.Digest, _ = simple(t, f.reg)
	f.opts.HostsDirs = []string{filepath.Join(t.TempDir(), "absent"), t.TempDir(), f.reg.HostsDir(t, ""), f.opts.HostsDirs[0]}
	if _, err := f.puller(fetch.Options{}).Image(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	if n := len(mirror.Requests()); n != 0 {
		t.Errorf("the mirror of the second directory was asked %d times", n)
	}
}

func TestBasicCredentials(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	f.reg.Set(fetchtest.Faults{User: "u", Secret: "s3cret"})
	var asked []string
	f.opts.Credentials = func(name imageref.Reference, host string) ([]fetch.Login, error) {
		asked = append(asked, name.String()+" "+host)
		return []fetch.Login{{User: "u", Secret: "s3cret"}}, nil
	}
	if _, err := f.pull(t, d); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{f.reg.Host + "/app:v1 " + f.reg.Host}, asked); diff != "" {
		t.Errorf("credentials were asked for (-want +got):\n%s", diff)
	}
	for name, creds := range map[string]func(imageref.Reference, string) ([]fetch.Login, error){
		"wrong":      password("0ther"),
		"none":       func(imageref.Reference, string) ([]fetch.Login, error) { return nil, nil },
		"unreadable": func(imageref.Reference, string) ([]fetch.Login, error) { return nil, errors.New("sealed") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			d, _ := simple(t, f.reg)
			f.reg.Set(fetchtest.Faults{User: "u", Secret: "s3cret"})
			f.opts.Credentials = creds
			_, err := f.pull(t, d)
			if e := reason(t, err, fetch.Unauthorized); strings.Contains(fmt.Sprintf("%+v", e), "0ther") {
				t.Errorf("error repeats the secret: %v", e)
			}
		})
	}
}

// tokenServer gives tokens for the right password and refuses requests to reg that carry
// none of those still valid.
type tokenServer struct {
	*httptest.Server
	valid  atomic.Pointer[string]
	issued atomic.Int32
	fail   atomic.Int32           // requests to fail
	agent  atomic.Pointer[string] // the last User-Agent
}

func newTokenServer(t *testing.T, reg *fetchtest.Registry) *tokenServer {
	t.Helper()
	s := &tokenServer{}
	s.valid.Store(new(""))
	s.Server = httptest.NewServer(http.HandlerFunc(s.issue))
	t.Cleanup(s.Close)
	reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, req *http.Request) bool {
		if v := *s.valid.Load(); v != "" && req.Header.Get("Authorization") == "Bearer "+v {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:app:pull"`, s.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}})
	return s
}

func (s *tokenServer) issue(w http.ResponseWriter, req *http.Request) {
	s.agent.Store(new(req.UserAgent()))
	if s.fail.Add(-1) >= 0 {
		panic(http.ErrAbortHandler)
	}
	if req.FormValue("password") != "s3cret" || req.FormValue("scope") != "repository:app:pull" {
		http.Error(w, "you sent "+req.FormValue("password"), http.StatusUnauthorized)
		return
	}
	token := fmt.Sprintf("t0ken%d", s.issued.Add(1))
	s.valid.Store(&token)
	fmt.Fprintf(w, `{"access_token":%q}`, token)
}

func password(p string) func(imageref.Reference, string) ([]fetch.Login, error) {
	return func(imageref.Reference, string) ([]fetch.Login, error) {
		return []fetch.Login{{User: "u", Secret: p}}, nil
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	s := newTokenServer(t, f.reg)
	f.opts.Credentials, f.opts.Version = password("s3cret"), "v1"
	if _, err := f.pull(t, d); err != nil {
		t.Fatal(err)
	}
	if n := s.issued.Load(); n != 1 {
		t.Errorf("%d tokens for one image, want 1", n)
	}
	if got := *s.agent.Load(); got != "edgecache-agent/v1" {
		t.Errorf("User-Agent at the token server = %q", got)
	}
}

func TestFailedTokenRequestIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	s := newTokenServer(t, f.reg)
	s.fail.Store(1)
	f.opts.Credentials = password("s3cret")
	if _, err := f.pull(t, d); err != nil {
		t.Errorf("after one lost connection to the token server: %v", err)
	}
}

func TestExpiredTokenIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 300_000)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	s := newTokenServer(t, f.reg)
	f.opts.Credentials = password("s3cret")
	expired := false
	_, err := f.puller(fetch.Options{Parallel: 1}).Image(t.Context(), f.want(t, d), func(fetch.Progress) {
		if !expired {
			s.valid.Store(new(""))
			expired = true
		}
	})
	if err != nil || s.issued.Load() != 2 {
		t.Errorf("error %v, %d tokens, want 2", err, s.issued.Load())
	}
}

func TestRefusedTokenRequestSaysNothingSecret(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	newTokenServer(t, f.reg)
	f.opts.Credentials = password("wr0ng")
	_, err := f.pull(t, d)
	e := reason(t, err, fetch.Unauthorized)
	if s := e.Error(); strings.Contains(s, "wr0ng") || strings.Contains(s, "/token") {
		t.Errorf("error = %q", s)
	}
}

func TestRedirectsCarryNoCredentials(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	var got []http.Header
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		got = append(got, req.Header.Clone())
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(elsewhere.Close)
	f.opts.HostsDirs = []string{f.reg.HostsDir(t, "server = \"http://"+f.reg.Host+"\"\n[header]\nx-api-key = \"s3cret\"\n")}
	f.opts.Credentials = password("s3cret")
	f.reg.Set(fetchtest.Faults{User: "u", Secret: "s3cret", Redirect: elsewhere.URL + "/x?X-Amz-Signature=s1gned&d="})
	_, err := f.puller(fetch.Options{Parallel: 1}).Image(t.Context(), f.want(t, d), nil)
	e := reason(t, err, fetch.Unauthorized)
	if s := e.Error(); strings.Contains(s, "s1gned") || strings.Contains(s, "s3cret") {
		t.Errorf("error = %q", s)
	}
	if len(got) == 0 {
		t.Fatal("the redirect was not followed")
	}
	for _, h := range got {
		if s := fmt.Sprint(h); strings.Contains(s, "s3cret") || h.Get("Authorization") != "" || h.Get("Referer") != "" {
			t.Errorf("redirect target was sent %v", h)
		}
	}
	if reqs := f.reg.Requests(); reqs[len(reqs)-1].Header.Get("X-Api-Key") != "s3cret" {
		t.Error("the registry itself was not sent the header of hosts.toml")
	}
}

func TestSignedRedirectIsNotInNetworkErrors(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	f.reg.Set(fetchtest.Faults{Redirect: "http://user:s3cret@127.0.0.1:1/x?X-Amz-Signature=s1gned&d="})
	_, err := f.puller(fetch.Options{Attempts: 1}).Image(t.Context(), f.want(t, d), nil)
	e := reason(t, err, fetch.NetworkError)
	if s := fmt.Sprintf("%v %+v", err, e); strings.Contains(s, "s1gned") || strings.Contains(s, "s3cret") {
		t.Errorf("error = %q", s)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	reg := fetchtest.NewTLSRegistry(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Certificate()}), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.reg = reg
	d, _ := simple(t, reg)
	f.opts.HostsDirs = []string{reg.HostsDir(t, "server = \"https://"+reg.Host+"\"\n")}
	_, err := f.pull(t, d)
	if _ = reason(t, err, fetch.TLSError); !fetch.Transient(err) {
		t.Errorf("%v is permanent", err)
	}
	f.opts.HostsDirs = []string{reg.HostsDir(t, "server = \"https://"+reg.Host+"\"\nca = \""+ca+"\"\n")}
	if _, err := f.pull(t, d); err != nil {
		t.Errorf("with the CA of hosts.toml: %v", err)
	}
}

func TestHTTPSToPlainServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	f.opts.HostsDirs = []string{f.reg.HostsDir(t, "server = \"https://"+f.reg.Host+"\"\n")}
	_, err := f.pull(t, d)
	if e := reason(t, err, fetch.TLSError); !strings.Contains(e.Error(), "plain HTTP") {
		t.Errorf("error = %v", e)
	}
}

func TestLocalRegistryNeedsNoConfiguration(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	f.opts.HostsDirs = nil
	if _, err := f.pull(t, d); err != nil {
		t.Error(err)
	}
}
