package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"

	"edgecache.dev/api/imageref"
)

// site is a set of servers by host name. Nothing else can be reached.
type site map[string]*httptest.Server

func (s site) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if s[host] == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var d net.Dialer
	return d.DialContext(ctx, network, s[host].Listener.Addr().String())
}

// serve starts a server that is gone with the test.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// network makes a Network for a site whose hosts all speak plain HTTP.
func network(t *testing.T, hosts site, change func(*Settings)) *Network {
	t.Helper()
	settings := Settings{Registries: []Registry{{Hosts: []string{"*.test"}, PlainHTTP: true}}}
	if change != nil {
		change(&settings)
	}
	n, err := New(settings, WithDial(hosts.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func endpoint(t *testing.T, n *Network, ref string) Endpoint {
	t.Helper()
	r, err := imageref.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	return n.Endpoints(r)[0]
}

// open gives a session of an anonymous user.
func open(t *testing.T, n *Network, ref string) *Session {
	t.Helper()
	s, err := n.Open(t.Context(), endpoint(t, n, ref), authn.Anonymous)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask requests a blob and only looks whether that works.
func ask(ctx context.Context, s *Session) error {
	resp, err := s.Request(ctx, http.MethodGet, Object{Blobs, "x"})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func TestRequestSaysWhatItWants(t *testing.T) {
	t.Parallel()
	var got http.Request
	hosts := site{"registry.test": serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = *r
		_, _ = io.WriteString(w, "hello")
	})}
	s := open(t, network(t, hosts, nil), "registry.test/team/app:v1")
	resp, err := s.Request(t.Context(), http.MethodGet, Object{Manifests, "v1"}, "type/a", "type/b")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || string(b) != "hello" {
		t.Errorf("body %q, %v", b, err)
	}
	want := []string{"GET", "/v2/team/app/manifests/v1", "registry.test", "type/a, type/b", ""}
	if diff := cmp.Diff(want, []string{got.Method, got.RequestURI, got.Host, got.Header.Get("Accept"), got.Header.Get("Accept-Encoding")}); diff != "" {
		t.Errorf("method, path, host, accept, encoding (-want +got):\n%s", diff)
	}
}

// TestMirrorQuery: mirrors of several registries are told which one is meant.
func TestMirrorQuery(t *testing.T) {
	t.Parallel()
	uris := make(chan string, 4)
	hosts := site{"mirror.test": serve(t, func(_ http.ResponseWriter, r *http.Request) { uris <- r.RequestURI })}
	n := network(t, hosts, func(s *Settings) {
		s.Registries = []Registry{{Hosts: []string{"registry.example:5000"}, Mirrors: []string{"http://mirror.test/hub"}}}
	})
	resp, err := open(t, n, "registry.example:5000/app:v1").Request(t.Context(), http.MethodHead, Object{Blobs, "sha256:x"})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if diff := cmp.Diff([]string{"/v2/", "/v2/hub/app/blobs/sha256:x?ns=registry.example%3A5000"}, []string{<-uris, <-uris}); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestStatusErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2*maxErrorBytes)
	tests := map[string]struct {
		status int
		body   string
		want   StatusError // of Codes and Message
	}{
		"one error":       {404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such"}]}`, StatusError{Codes: []string{"MANIFEST_UNKNOWN"}, Message: "no such"}},
		"two errors":      {403, `{"errors":[{"code":"A","message":"a"},{"code":"B","message":"b"}]}`, StatusError{Codes: []string{"A", "B"}, Message: "a b"}},
		"many errors":     {400, `{"errors":[` + strings.Repeat(`{"code":"A"},`, 50) + `{}]}`, StatusError{Codes: []string{"A", "A", "A", "A", "A"}}},
		"detail":          {404, `{"errors":[{"code":"A","message":"a","detail":{"x":[1]}}]}`, StatusError{Codes: []string{"A"}, Message: "a"}},
		"no message":      {418, `{"errors":[{"code":"A"}]}`, StatusError{Codes: []string{"A"}}},
		"HTML":            {404, "<html>", StatusError{}},
		"nothing":         {404, "", StatusError{}},
		"too long":        {404, `{"errors":[{"code":"A","message":"` + long + `"}]}`, StatusError{}},
		"other JSON":      {404, `{"message":"a"}`, StatusError{}},
		"secrets in it":   {403, `{"errors":[{"code":"A","message":"https://u:pa55@a.test/?x=s1gned"}]}`, StatusError{Codes: []string{"A"}, Message: "https://…@a.test/?…"}},
		"no content":      {204, "", StatusError{}},
		"partial content": {206, "", StatusError{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := site{"registry.test": serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" {
					return
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})}
			err := ask(t.Context(), open(t, network(t, hosts, nil), "registry.test/app"))
			got, ok := errors.AsType[*StatusError](err)
			if !ok {
				t.Fatalf("error = %v, want *StatusError", err)
			}
			want := tc.want
			want.Method, want.Scheme, want.Host, want.Path, want.StatusCode = http.MethodGet, "http", "registry.test", "/v2/app/blobs/x", tc.status
			if diff := cmp.Diff(want, *got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoginErrors(t *testing.T) {
	t.Parallel()
	challenge := func(realm string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"go away"}]}`)
				return
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", realm))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	tests := map[string]struct {
		handler http.HandlerFunc
		want    LoginError // without Err
		token   bool
	}{
		"registry":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, LoginError{Scheme: "http", Host: "registry.test", Path: "/v2/", StatusCode: 418}, false},
		"token server": {challenge("http://registry.test/token"), LoginError{Scheme: "http", Host: "registry.test", Path: "/token", StatusCode: 403, Message: "go away"}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := network(t, site{"registry.test": serve(t, tc.handler)}, nil)
			_, err := n.Open(t.Context(), endpoint(t, n, "registry.test/app"), authn.Anonymous)
			got, ok := errors.AsType[*LoginError](err)
			if !ok {
				t.Fatalf("error = %v, want *LoginError", err)
			}
			if got.TokenServer() != tc.token || got.Err == nil {
				t.Errorf("TokenServer() = %v, Err = %v", got.TokenServer(), got.Err)
			}
			got.Err = nil
			if diff := cmp.Diff(tc.want, *got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// failing is a credential that cannot be read.
type failing struct{}

func (failing) Authorization() (*authn.AuthConfig, error) { return nil, errors.New("helper is gone") }

func TestCredentialThatCannotBeRead(t *testing.T) {
	t.Parallel()
	n := network(t, site{}, nil)
	at := endpoint(t, n, "registry.test/app")
	if _, err := n.Open(t.Context(), at, failing{}); err == nil || err.Error() != "reading credential for registry.test: helper is gone" {
		t.Errorf("error = %v", err)
	}
	if n.Known(at, failing{}) {
		t.Error("is known")
	}
	n.Forget(at, failing{})
}

// TestSessionsAreBoundToTheirUser: each user and repository logs in for itself, and how
// that is done is asked once.
func TestSessionsAreBoundToTheirUser(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	pings, tokens := 0, 0
	hosts := site{"registry.test": serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/token" {
			tokens++
			_, _ = io.WriteString(w, `{"token":"t"}`)
			return
		}
		pings++
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://registry.test/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	})}
	n := network(t, hosts, nil)
	a, b := &authn.Basic{Username: "a", Password: "x"}, &authn.Basic{Username: "b", Password: "x"}
	app, other := endpoint(t, n, "registry.test/app"), endpoint(t, n, "registry.test/other")
	steps := []struct {
		at     Endpoint
		user   authn.Authenticator
		tokens int // so far
	}{
		{app, a, 1}, {app, a, 1}, {app, &authn.Basic{Username: "a", Password: "x"}, 1},
		{app, b, 2}, {app, authn.Anonymous, 3}, {other, a, 4}, {app, &authn.Basic{Username: "a", Password: "y"}, 5}, {app, a, 5},
	}
	for i, s := range steps {
		if _, err := n.Open(t.Context(), s.at, s.user); err != nil {
			t.Fatal(err)
		}
		if tokens != s.tokens || pings != 1 || !n.Known(s.at, s.user) {
			t.Errorf("step %d: %d log-ins, want %d; %d questions how, want 1; known %v", i, tokens, s.tokens, pings, n.Known(s.at, s.user))
		}
	}
	n.Forget(app, a)
	if n.Known(app, a) || !n.Known(app, b) || !n.Known(other, a) {
		t.Error("Forget dropped another")
	}
}

// TestBodiesAreBounded over a real connection: the reader gets the limit's error, and
// the place at the host is free again.
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	hosts := site{"registry.test": serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})}
	n := network(t, hosts, func(s *Settings) { s.MaxRequestsPerHost = 1 })
	s := open(t, n, "registry.test/app") // its answer to /v2/ is endless as well
	for range 3 {
		resp, err := s.Request(t.Context(), http.MethodGet, Object{Blobs, "x"})
		if err != nil {
			t.Fatal(err)
		}
		read, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if _, ok := errors.AsType[*TooLargeError](err); !ok || read != MaxBodyBytes {
			t.Errorf("read %d bytes, %v", read, err)
		}
	}
	if len(n.places.hosts) != 0 {
		t.Errorf("%d hosts have requests, want none", len(n.places.hosts))
	}
}

// TestReadingEndsWithTheContext: a server that trickles cannot hold a caller.
func TestReadingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	hosts := site{"registry.test": serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, "x"); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	})}
	s := open(t, network(t, hosts, nil), "registry.test/app")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	resp, err := s.Request(ctx, http.MethodGet, Object{Blobs, "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	start := time.Now()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want the deadline", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestWaitingForAPlaceEndsWithTheContext: others' slow requests do not hold a caller.
func TestWaitingForAPlaceEndsWithTheContext(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	hosts := site{"registry.test": serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			<-release
		}
	})}
	n := network(t, hosts, func(s *Settings) { s.MaxRequestsPerHost = 1 })
	s := open(t, n, "registry.test/app")
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, err := s.Request(t.Context(), http.MethodGet, Object{Blobs, "slow"}); err == nil {
			_ = resp.Body.Close()
		}
	})
	for len(n.busyHosts()) == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ask(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want the deadline", err)
	}
	close(release)
	wg.Wait()
}

// busyHosts gives the hosts at which a request runs or waits.
func (n *Network) busyHosts() []string {
	n.places.mu.Lock()
	defer n.places.mu.Unlock()
	var out []string
	for host := range n.places.hosts {
		out = append(out, host)
	}
	return out
}

// TestErrorsNameNoSecrets goes through every way in which text of others gets in.
func TestErrorsNameNoSecrets(t *testing.T) {
	t.Parallel()
	user := &authn.Basic{Username: "scott-user", Password: "pa55-w0rd"}
	to := func(location string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, location, http.StatusFound) }
	}
	bearer := func(realm string, then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", realm))
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			then(w, r)
		}
	}
	echo := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": "A", "message": "got " + r.Header.Get("Authorization")}}})
	}
	tests := map[string]http.HandlerFunc{
		"redirect to nowhere":        to("http://gone.test/x?sig=s1gned"),
		"redirect with a user":       to("http://u:s1gned@gone.test/"),
		"redirect that is refused":   to("http://127.0.0.1/?sig=s1gned"),
		"redirect without TLS":       to("http://other.example/?sig=s1gned"),
		"redirect that is no URL":    to("http://[x/?sig=s1gned"),
		"token server gone":          bearer("http://gone.test/?sig=s1gned", nil),
		"token server refused":       bearer("http://10.0.0.1/?sig=s1gned", nil),
		"token server says too much": bearer("http://registry.test/token", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"refresh_token":"s1gned"}`) }),
		"token server echoes":        bearer("http://registry.test/token", echo),
		"token server echoes in text": bearer("http://registry.test/token", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, r.Header.Get("Authorization"))
		}),
		"token server, malformed": bearer("http://registry.test/token", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":`) }),
		"registry echoes":         echo,
		"registry gives nonsense": func(_ http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		"registry is busy and talkative": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"errors":[{"message":"https://u:s1gned@x.test/?s1gned"}]}`)
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := network(t, site{"registry.test": serve(t, handler)}, nil)
			s, err := n.Open(t.Context(), endpoint(t, n, "registry.test/app"), user)
			if err == nil {
				err = ask(t.Context(), s)
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err)} {
				for _, secret := range []string{"pa55", "s1gned", "scott-user", "c2NvdHQt"} {
					if strings.Contains(text, secret) {
						t.Errorf("error %q holds a secret", text)
					}
				}
			}
		})
	}
}
