package access

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func writeFile(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

// script is a connection that gives its answers in turn, the last one again and again.
// Inside a synctest bubble it takes the place of the network.
type script struct {
	answers []any // int status or error
	asked   []time.Duration
	start   time.Time
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	n := min(len(s.asked), len(s.answers)-1)
	s.asked = append(s.asked, time.Since(s.start))
	switch answer := s.answers[n].(type) {
	case error:
		return nil, answer
	case int:
		return &http.Response{StatusCode: answer, Request: req, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
	}
	return nil, errors.New("neither a status nor an error")
}

// repeatOver runs the repetition over a script and gives the status, 0 with an error.
func repeatOver(t *testing.T, s *script, method string, timeout time.Duration) (int, error) {
	t.Helper()
	s.start = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://registry.test/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := repeatedly(req, s.RoundTrip)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestRepetition(t *testing.T) {
	t.Parallel()
	reset := &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	servfail := &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	dnsTimeout := &net.DNSError{Err: "i/o timeout", IsTemporary: true, IsTimeout: true}
	nxdomain := &net.DNSError{Err: "no such host", IsNotFound: true}
	tests := map[string]struct {
		method  string
		answers []any
		timeout time.Duration
		want    int // tries
		status  int // 0 for an error
	}{
		"good":                  {http.MethodGet, []any{200}, time.Minute, 1, 200},
		"500":                   {http.MethodGet, []any{500}, time.Minute, 3, 500},
		"500, then good":        {http.MethodGet, []any{500, 200}, time.Minute, 2, 200},
		"502 to HEAD":           {http.MethodHead, []any{502, 502, 200}, time.Minute, 3, 200},
		"503":                   {http.MethodGet, []any{503}, time.Minute, 3, 503},
		"504, 408, 522":         {http.MethodGet, []any{504, 408, 522}, time.Minute, 3, 522},
		"nginx":                 {http.MethodGet, []any{499, 200}, time.Minute, 2, 200},
		"429 is not":            {http.MethodGet, []any{429}, time.Minute, 1, 429},
		"404 is not":            {http.MethodGet, []any{404}, time.Minute, 1, 404},
		"501 is not":            {http.MethodGet, []any{501}, time.Minute, 1, 501},
		"POST is not":           {http.MethodPost, []any{500}, time.Minute, 1, 500},
		"reset":                 {http.MethodGet, []any{reset, reset, 200}, time.Minute, 3, 200},
		"closed":                {http.MethodGet, []any{io.EOF, io.ErrUnexpectedEOF, syscall.EPIPE}, time.Minute, 3, 0},
		"refused is not":        {http.MethodGet, []any{refused}, time.Minute, 1, 0},
		"DNS failure":           {http.MethodGet, []any{servfail, 200}, time.Minute, 2, 200},
		"DNS timeout is not":    {http.MethodGet, []any{dnsTimeout}, time.Minute, 1, 0},
		"unknown host is not":   {http.MethodGet, []any{nxdomain}, time.Minute, 1, 0},
		"no time for any pause": {http.MethodGet, []any{500}, 200 * time.Millisecond, 1, 500},
		"no time for a second":  {http.MethodGet, []any{500}, 900 * time.Millisecond, 2, 500},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: tc.answers}
				status, err := repeatOver(t, s, tc.method, tc.timeout)
				if len(s.asked) != tc.want {
					t.Errorf("%d tries at %v, want %d", len(s.asked), s.asked, tc.want)
				}
				if (err != nil) != (tc.status == 0) || status != tc.status {
					t.Errorf("status %d, %v, want %d", status, err, tc.status)
				}
				if took := time.Since(s.start); took > 1500*time.Millisecond || took > tc.timeout {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestRepetitionEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://registry.test/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(100*time.Millisecond, cancel)
		start := time.Now()
		s := &script{answers: []any{500}, start: start}
		resp, err := repeatedly(req, s.RoundTrip)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want cancelled", err)
		}
		if took := time.Since(start); took != 100*time.Millisecond || len(s.asked) != 1 {
			t.Errorf("took %s and %d tries", took, len(s.asked))
		}
	})
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(2)
		var now, most atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				release, err := p.take(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second)
				now.Add(-1)
				release()
			})
		}
		synctest.Wait()
		other, err := p.take(t.Context(), "b") // another host waits for nobody
		if err != nil {
			t.Fatal(err)
		}
		other()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.take(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("take = %v, want its deadline", err)
		}
		wg.Wait()
		if most.Load() != 2 || len(p.hosts) != 0 {
			t.Errorf("%d at a time, want 2; %d hosts kept, want none", most.Load(), len(p.hosts))
		}
	})
}

func TestBodyReleasesOnce(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(*body){
		"closed":          func(b *body) { _ = b.Close(); _ = b.Close() },
		"read":            func(b *body) { _, _ = io.ReadAll(b) },
		"read and closed": func(b *body) { _, _ = io.ReadAll(b); _ = b.Close() },
	} {
		n := 0
		use(&body{Reader: strings.NewReader("x"), closer: io.NopCloser(nil), release: func() { n++ }})
		if n != 1 {
			t.Errorf("%s: released %d times", name, n)
		}
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status, size int
		length       int64 // Content-Length, -1 for none
		method       string
		want         int  // bytes read
		tooLarge     bool // whether that is an error
	}{
		"small":                  {200, 100, 100, http.MethodGet, 100, false},
		"at the limit":           {200, MaxBodyBytes, -1, http.MethodGet, MaxBodyBytes, false},
		"one more":               {200, MaxBodyBytes + 1, -1, http.MethodGet, MaxBodyBytes, true},
		"much more":              {200, MaxBodyBytes * 2, -1, http.MethodGet, MaxBodyBytes, true},
		"announced":              {200, MaxBodyBytes + 1, MaxBodyBytes + 1, http.MethodGet, 0, true},
		"announced to HEAD":      {200, 0, MaxBodyBytes + 1, http.MethodHead, 0, false},
		"error answer":           {404, maxErrorBytes * 2, -1, http.MethodGet, maxErrorBytes, false},
		"announced error answer": {500, maxErrorBytes * 2, MaxBodyBytes * 2, http.MethodGet, maxErrorBytes, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, _ := http.NewRequestWithContext(t.Context(), tc.method, "https://registry.test/", nil)
			b, err := io.ReadAll(bounded(&http.Response{
				StatusCode: tc.status, ContentLength: tc.length, Request: req,
				Body: io.NopCloser(bytes.NewReader(make([]byte, tc.size))),
			}))
			large, is := errors.AsType[*TooLargeError](err)
			if len(b) != tc.want || is != tc.tooLarge {
				t.Errorf("%d bytes, %v, want %d", len(b), err, tc.want)
			}
			if is && large.Limit != MaxBodyBytes {
				t.Errorf("limit %d", large.Limit)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const date = "Mon, 23 Nov 2026 10:00:00 GMT"
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, " 5 ": 5 * time.Second, "-1": 0, "86401": 24 * time.Hour, "99999999999999": 0, "1.5": 0,
		"Mon, 23 Nov 2026 10:00:30 GMT": 30 * time.Second, "Mon, 23 Nov 2026 09:00:00 GMT": 0, "Tue, 24 Nov 2026 11:00:00 GMT": 24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}, "Date": {date}}); got != want {
			t.Errorf("Retry-After %q: %s, want %s", value, got, want)
		}
	}
	if got := retryAfter(http.Header{"Retry-After": {date}}); got != 0 {
		t.Errorf("a date without Date: %s, want 0: whose clock is right is not known", got)
	}
}

// opener counts how often a session is opened.
type opener struct {
	mu    sync.Mutex
	opens []string
}

func (o *opener) open(key string, err error) func() (*Session, error) {
	return func() (*Session, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.opens = append(o.opens, key)
		if err != nil {
			return nil, err
		}
		return &Session{Endpoint: Endpoint{Host: key}}, nil
	}
}

func keyOf(s string) sessionKey {
	return sessionKey{endpoint: Endpoint{Host: s}, auth: authn.AuthConfig{Username: s}}
}

func TestSessionsAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, o := newSessions(), &opener{}
		get := func(key string, err error) error {
			got, err := s.get(t.Context(), keyOf(key), o.open(key, err))
			if err == nil && got.Endpoint.Host != key {
				t.Errorf("session of %q for %q", got.Endpoint.Host, key)
			}
			return err
		}
		if s.has(keyOf("a")) {
			t.Error("has a session before any was opened")
		}
		_, _, _ = get("a", nil), get("a", nil), get("b", nil)
		if err := get("c", io.EOF); !errors.Is(err, io.EOF) {
			t.Errorf("error = %v", err)
		}
		_ = get("c", nil) // a failure is not kept
		if diff := cmp.Diff([]string{"a", "b", "c", "c"}, o.opens); diff != "" {
			t.Errorf("opened (-want +got):\n%s", diff)
		}
		s.drop(keyOf("a"))
		s.drop(keyOf("never"))
		if s.has(keyOf("a")) || !s.has(keyOf("b")) {
			t.Error("drop dropped another")
		}
		time.Sleep(maxSessionAge)
		if s.has(keyOf("b")) {
			t.Error("session does not age")
		}
		o.opens = nil
		_ = get("b", nil)
		if diff := cmp.Diff([]string{"b"}, o.opens); diff != "" {
			t.Errorf("opened after they aged (-want +got):\n%s", diff)
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	s, o := newSessions(), &opener{}
	for i := range maxSessions + 10 {
		key := string(rune('0' + i))
		if _, err := s.get(t.Context(), keyOf(key), o.open(key, nil)); err != nil {
			t.Fatal(err)
		}
		// The first stays because it is used.
		if _, err := s.get(t.Context(), keyOf("0"), o.open("0", nil)); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.byKey) != maxSessions || !s.has(keyOf("0")) || s.has(keyOf("1")) {
		t.Errorf("%d kept, first %v, second %v", len(s.byKey), s.has(keyOf("0")), s.has(keyOf("1")))
	}
}

// TestOneOpensForAll: the others wait, take the outcome, and go on by themselves when
// the one that opened gave up.
func TestOneOpensForAll(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first error
		opens int
		fails int
	}{
		"opened":   {nil, 1, 0},
		"refused":  {&LoginError{StatusCode: 401}, 1, 5},
		"gave up":  {context.Canceled, 2, 1},
		"too late": {context.DeadlineExceeded, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSessions()
				var opens, fails atomic.Int32
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						_, err := s.get(t.Context(), keyOf("a"), func() (*Session, error) {
							n := opens.Add(1)
							time.Sleep(time.Second)
							if n == 1 && tc.first != nil {
								return nil, tc.first
							}
							return &Session{}, nil
						})
						if err != nil {
							fails.Add(1)
						}
					})
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				synctest.Wait()
				if _, err := s.get(ctx, keyOf("a"), nil); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("waiting = %v, want its own deadline", err)
				}
				wg.Wait()
				if int(opens.Load()) != tc.opens || int(fails.Load()) != tc.fails {
					t.Errorf("%d opened, %d failed, want %d and %d", opens.Load(), fails.Load(), tc.opens, tc.fails)
				}
			})
		})
	}
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	leaky := errors.New("no token in bearer response:\n{\"refresh_token\":\"t0ken\"}")
	for want, err := range map[string]error{
		"a.test answers 429 Too Many Requests, retry after 5s: slow down":       &BusyError{Host: "a.test", StatusCode: 429, RetryAfter: 5 * time.Second, Message: "slow down"},
		"a.test answers 503 Service Unavailable":                                &BusyError{Host: "a.test", StatusCode: 503},
		"answer is larger than 4194304 bytes":                                   &TooLargeError{Limit: MaxBodyBytes},
		"plain HTTP to a.test is not allowed by the registry settings":          &PlainHTTPError{Host: "a.test"},
		"redirect to a.test: too many redirects":                                &RedirectError{Host: "a.test", Reason: "too many redirects"},
		"GET a.test/v2/x/manifests/v1: 404 Not Found MANIFEST_UNKNOWN: no such": &StatusError{Method: "GET", Host: "a.test", Path: "/v2/x/manifests/v1", StatusCode: 404, Codes: []string{"MANIFEST_UNKNOWN"}, Message: "no such"},
		"logging in at a.test/token: 401 Unauthorized: bad":                     &LoginError{Host: "a.test", Path: "/token", StatusCode: 401, Message: "bad"},
		"no token in the token server's answer":                                 scrubbed(leaky),
	} {
		if err.Error() != want {
			t.Errorf("text %q, want %q", err, want)
		}
	}
	if scrubbed(nil) != nil {
		t.Error("scrubbed(nil) is an error")
	}
	refused := &transport.Error{StatusCode: 401}
	login, ok := errors.AsType[*LoginError](loginFailed(refused))
	if !ok || !errors.Is(login, refused) || !login.TokenServer() || login.Host != "" {
		t.Errorf("loginFailed = %+v", login)
	}
	for path, want := range map[string]bool{"/v2/": false, "/v2": false, "/token": true, "/v2/token": true} {
		if got := (&LoginError{Path: path}).TokenServer(); got != want {
			t.Errorf("TokenServer() for %s = %v", path, got)
		}
	}
}

func TestAllowedSchemes(t *testing.T) {
	t.Parallel()
	n, err := New(Settings{Registries: []Registry{{Hosts: []string{"plain.test", "10.0.0.5:5000"}, PlainHTTP: true}, {Hosts: []string{"tls.test"}}}})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		registry string
		plain    bool // by a mirror's scheme
		allowed  []string
		refused  []string
	}{
		"no settings":  {"other.test", false, []string{"https://other.test", "https://x.test", "http://plain.test"}, []string{"http://other.test", "http://x.test", "http://127.0.0.1", "http://localhost"}},
		"plain":        {"plain.test", true, []string{"http://plain.test", "http://plain.test:80", "https://x.test"}, []string{"http://x.test", "http://plain.test:81", "http://localhost"}},
		"TLS":          {"tls.test", false, []string{"https://tls.test"}, []string{"http://tls.test"}},
		"private":      {"10.0.0.6:5000", false, []string{"https://10.0.0.6:5000", "http://10.0.0.5:5000"}, []string{"http://10.0.0.6:5000"}},
		"loopback":     {"localhost:5000", false, []string{"http://localhost:5000", "https://localhost:5000", "http://127.0.0.1:5001"}, []string{"http://10.0.0.6"}},
		"plain mirror": {"mirror.test", true, []string{"http://mirror.test"}, []string{"http://other.test"}},
		"TLS mirror of the host of a plain entry": {"plain.test", false, []string{"https://plain.test"}, []string{"http://plain.test"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := wire{n, Endpoint{Host: tc.registry, plainHTTP: tc.plain, entry: n.entryOf(tc.registry)}}
			for _, u := range slices.Concat(tc.allowed, tc.refused) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
				if err != nil {
					t.Fatal(err)
				}
				err = w.allow(req.URL)
				if refuse := slices.Contains(tc.refused, u); (err != nil) != refuse {
					t.Errorf("%s: %v, want refused: %v", u, err, refuse)
				}
			}
		})
	}
}
