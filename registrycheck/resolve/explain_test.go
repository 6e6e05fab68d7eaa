package resolve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/dialguard"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

// asked is an attempt at registry.test as the given user.
func asked(t *testing.T, used keychain.Credential, users ...keychain.Credential) attempt {
	t.Helper()
	_, r := one(t)
	image := ref(t, "registry.test/app:v1")
	return attempt{ref: image, at: r.network.Endpoints(image)[0], users: users, used: used}
}

// dialing wraps a cause as net/http does.
func dialing(host string, cause error) error {
	return &url.Error{Op: "Get", URL: "https://" + host + "/v2/?s1gned", Err: &net.OpError{Op: "dial", Net: "tcp", Err: cause}}
}

// timeoutError is any error that says it is a timeout, such as that of a TLS handshake.
type timeoutError struct{}

func (timeoutError) Error() string   { return "net/http: TLS handshake timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// both is how go-containerregistry joins the failures with and without TLS: without
// Unwrap, so that only errors.As and errors.Is look inside.
type both []error

func (b both) Error() string { return "both failed" }

func (b both) As(target any) bool {
	for _, err := range b {
		if errors.As(err, target) {
			return true
		}
	}
	return false
}

func (b both) Is(target error) bool {
	for _, err := range b {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func TestExplain(t *testing.T) {
	t.Parallel()
	a := asked(t, keychain.Credential{})
	const (
		no    = v1alpha1.VerdictNotPullable
		later = v1alpha1.VerdictInconclusive
	)
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	unknownCA := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	tests := map[string]struct {
		err     error
		verdict v1alpha1.Verdict
		reason  string
		host    string
		message string
	}{
		"refused":                  {dialing("registry.test", refused), later, v1alpha1.ReasonNetworkError, "registry.test", "registry.test is not reached (connection refused): check the link"},
		"unreachable":              {dialing("registry.test", os.NewSyscallError("connect", syscall.ENETUNREACH)), later, v1alpha1.ReasonNetworkError, "registry.test", "(network is unreachable)"},
		"no route, token server":   {dialing("auth.test", os.NewSyscallError("connect", syscall.EHOSTUNREACH)), later, v1alpha1.ReasonNetworkError, "auth.test", "auth.test is not reached (no route to host)"},
		"unknown host":             {dialing("registry.test", &net.DNSError{Name: "registry.test", IsNotFound: true}), later, v1alpha1.ReasonNetworkError, "registry.test", "not known to DNS"},
		"no DNS":                   {dialing("registry.test", &net.DNSError{Name: "registry.test", IsTemporary: true}), later, v1alpha1.ReasonNetworkError, "registry.test", "DNS gives no answer for registry.test: check the DNS"},
		"reset":                    {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, later, v1alpha1.ReasonNetworkError, "registry.test", "connection reset by peer"},
		"lost":                     {fmt.Errorf("reading manifest: %w", io.ErrUnexpectedEOF), later, v1alpha1.ReasonNetworkError, "registry.test", "connection to registry.test was lost"},
		"closed":                   {&url.Error{Op: "Get", URL: "https://registry.test/", Err: io.EOF}, later, v1alpha1.ReasonNetworkError, "registry.test", "was lost"},
		"TLS handshake timeout":    {&url.Error{Op: "Get", URL: "https://registry.test/", Err: timeoutError{}}, later, v1alpha1.ReasonNetworkError, "registry.test", "registry.test did not answer in time"},
		"deadline":                 {fmt.Errorf("waiting: %w", context.DeadlineExceeded), later, v1alpha1.ReasonNetworkError, "registry.test", "did not answer in time"},
		"cancelled":                {fmt.Errorf("waiting: %w", context.Canceled), later, v1alpha1.ReasonNetworkError, "registry.test", "looking up registry.test/app:v1 was cancelled"},
		"proxy":                    {&url.Error{Op: "Get", URL: "https://registry.test/", Err: &net.OpError{Op: "proxyconnect", Err: &net.OpError{Op: "dial", Err: refused}}}, later, v1alpha1.ReasonNetworkError, "registry.test", "proxy for registry.test is not reached (connection refused): check the proxy"},
		"proxy log-in":             {&url.Error{Op: "Get", URL: "https://registry.test/", Err: errors.New("Proxy Authentication Required")}, later, v1alpha1.ReasonNetworkError, "registry.test", "wants a log-in"},
		"unknown CA":               {&url.Error{Op: "Get", URL: "https://registry.test/", Err: unknownCA}, later, v1alpha1.ReasonTLSError, "registry.test", "not trusted: name the CA as caFile"},
		"unknown CA and no HTTP":   {both{&url.Error{Op: "Get", URL: "https://registry.test/", Err: unknownCA}, &access.PlainHTTPError{Host: "registry.test"}}, later, v1alpha1.ReasonTLSError, "registry.test", "not trusted"},
		"refused and no HTTP":      {both{dialing("registry.test", refused), &access.PlainHTTPError{Host: "registry.test"}}, later, v1alpha1.ReasonNetworkError, "registry.test", "connection refused"},
		"wrong name":               {&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "registry.test"}}, later, v1alpha1.ReasonTLSError, "registry.test", "certificate is not for registry.test"},
		"expired":                  {&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Detail: "now is later"}}, later, v1alpha1.ReasonTLSError, "registry.test", "(now is later): set the clock of this machine"},
		"not for servers":          {&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}}, later, v1alpha1.ReasonTLSError, "registry.test", "is not valid ("},
		"alert":                    {&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, later, v1alpha1.ReasonTLSError, "registry.test", "registry.test refuses TLS (tls: handshake failure)"},
		"not TLS":                  {tls.RecordHeaderError{Msg: "garbage"}, later, v1alpha1.ReasonTLSError, "registry.test", "does not speak TLS (garbage)"},
		"plain HTTP":               {&url.Error{Op: "Get", URL: "https://registry.test/", Err: http.ErrSchemeMismatch}, later, v1alpha1.ReasonTLSError, "registry.test", "registry.test speaks plain HTTP: set plainHTTP"},
		"would be plain":           {&access.PlainHTTPError{Host: "store.test"}, later, v1alpha1.ReasonTLSError, "store.test", "store.test would be asked without TLS"},
		"redirect":                 {&access.RedirectError{Host: "store.test", Reason: "too many redirects"}, later, v1alpha1.ReasonRegistryError, "store.test", "registry.test gives a redirect to store.test: too many redirects, which is not followed"},
		"guarded":                  {&url.Error{Op: "Get", URL: "https://store.test/", Err: &dialguard.RefusedError{Host: "store.test:443", Address: netip.MustParseAddr("169.254.169.254"), Kind: "link-local"}}, later, v1alpha1.ReasonRegistryError, "store.test:443", "registry.test leads elsewhere: store.test:443 resolves to 169.254.169.254 (link-local), where no connection is made on behalf of a registry: if this is meant, list the host in allowedHosts"},
		"rate limit":               {&access.BusyError{Host: "registry.test", StatusCode: 429, RetryAfter: time.Minute}, later, v1alpha1.ReasonRateLimited, "registry.test", "a pull Secret often has a higher quota"},
		"busy":                     {&access.BusyError{Host: "registry.test", StatusCode: 503}, later, v1alpha1.ReasonRegistryError, "registry.test", "it is tried again later"},
		"not found":                {&access.StatusError{Host: "registry.test", Path: "/v2/app/manifests/v1", StatusCode: 404}, no, v1alpha1.ReasonNotFound, "registry.test", "has no registry.test/app:v1 (404)"},
		"blob not found":           {&access.StatusError{Host: "store.test", Path: "/v2/app/blobs/sha256:abc", StatusCode: 404}, no, v1alpha1.ReasonNotFound, "store.test", "store.test has no part sha256:abc of registry.test/app:v1"},
		"unknown with another 4xx": {&access.StatusError{Host: "registry.test", StatusCode: 400, Codes: []string{"NAME_UNKNOWN"}}, no, v1alpha1.ReasonNotFound, "registry.test", "has no"},
		"tag invalid":              {&access.StatusError{Host: "registry.test", StatusCode: 400, Codes: []string{"TAG_INVALID"}}, no, v1alpha1.ReasonInvalidReference, "registry.test", "does not accept the name"},
		"teapot":                   {&access.StatusError{Method: "GET", Host: "registry.test", Path: "/x", StatusCode: 418}, later, v1alpha1.ReasonRegistryError, "registry.test", "GET registry.test/x: 418 I'm a teapot"},
		"unauthorized":             {&access.StatusError{Host: "registry.test", StatusCode: 401}, no, v1alpha1.ReasonUnauthorized, "registry.test", "not given to anonymous users"},
		"unauthorized elsewhere":   {&access.StatusError{Host: "store.test", StatusCode: 401}, later, v1alpha1.ReasonRegistryError, "store.test", "store.test, where registry.test keeps its data, answers 401"},
		"token refused":            {&access.LoginError{Host: "auth.test", Path: "/token", StatusCode: 401}, no, v1alpha1.ReasonUnauthorized, "auth.test", "not given to anonymous users (logging in at auth.test/token: 401"},
		"token server down":        {&access.LoginError{Host: "auth.test", Path: "/token", StatusCode: 502}, later, v1alpha1.ReasonRegistryError, "auth.test", "502 Bad Gateway: it is tried again later"},
		"token server absent":      {&access.LoginError{Host: "auth.test", Path: "/token", StatusCode: 404}, later, v1alpha1.ReasonRegistryError, "auth.test", "404"},
		"anonymous bad request":    {&access.LoginError{Host: "auth.test", Path: "/token", StatusCode: 400}, later, v1alpha1.ReasonRegistryError, "auth.test", "400"},
		"no registry":              {&access.LoginError{Host: "registry.test", Path: "/v2/", StatusCode: 404}, later, v1alpha1.ReasonRegistryError, "registry.test", "registry.test does not answer as a registry (404 for /v2/)"},
		"forbidden at /v2/":        {&access.LoginError{Host: "registry.test", Path: "/v2/", StatusCode: 403}, no, v1alpha1.ReasonUnauthorized, "registry.test", "not given to anonymous users"},
		"too large":                {fmt.Errorf("reading: %w", &access.TooLargeError{Limit: 1}), no, v1alpha1.ReasonInvalidImage, "registry.test", "more than 4 MiB: runtimes refuse it"},
		"invalid":                  {&invalidError{what: "it is odd"}, no, v1alpha1.ReasonInvalidImage, "registry.test", "registry.test/app:v1 cannot be pulled from registry.test: it is odd"},
		"mismatch":                 {&mismatchError{"manifest", "a", "b"}, no, v1alpha1.ReasonDigestMismatch, "registry.test", "manifest: got a, want b"},
		"no Linux":                 {errNoLinux, no, v1alpha1.ReasonPlatformMissing, "registry.test", "no Linux platform: build it for linux"},
		"anything else":            {errors.New("what? https://u:pa55@x.test/"), later, v1alpha1.ReasonRegistryError, "registry.test", "makes no sense (what? https://…@x.test/)"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := explain(tc.err, a)
			if diff := cmp.Diff([]string{string(tc.verdict), tc.reason, tc.host}, []string{string(got.Verdict), got.Reason, got.Host}); diff != "" {
				t.Errorf("verdict, reason, host (-want +got):\n%s\n%s", diff, got.Message)
			}
			if !strings.Contains(got.Message, tc.message) || strings.Contains(got.Message, "pa55") || strings.Contains(got.Message, "s1gned") {
				t.Errorf("message %q, want one containing %q", got.Message, tc.message)
			}
			if fmt.Sprintf("%p", got.Unwrap()) != fmt.Sprintf("%p", tc.err) {
				t.Errorf("Unwrap() = %v, want the cause", got.Unwrap())
			}
			if busy, ok := errors.AsType[*access.BusyError](tc.err); ok && got.RetryAfter != busy.RetryAfter {
				t.Errorf("RetryAfter = %s, want %s", got.RetryAfter, busy.RetryAfter)
			}
		})
	}
}

// TestExplainNamesTheCredential, not what is in it.
func TestExplainNamesTheCredential(t *testing.T) {
	t.Parallel()
	used := user("registry.test/app", "scott", "pa55")
	a := asked(t, used, used, user("*.test", "other", "pa55"))
	tests := map[string]struct {
		err     error
		message string
	}{
		"refused":             {&access.StatusError{Host: "registry.test", StatusCode: 403}, "any of 2 matching credentials, the last one: credential for registry.test/app ("},
		"invalid grant":       {&access.LoginError{Host: "auth.test", Path: "/token", StatusCode: 400}, "any of 2 matching credentials"},
		"not found":           {&access.StatusError{Host: "registry.test", Path: "/v2/app/manifests/v1", StatusCode: 404}, "check repository and tag, or push it"},
		"over the user quota": {&access.BusyError{Host: "registry.test", StatusCode: 429}, "lower the number of requests or raise the quota"},
	}
	for name, tc := range tests {
		got := explain(tc.err, a)
		if !strings.Contains(got.Message, tc.message) || strings.Contains(got.Message, "scott") || strings.Contains(got.Message, "pull Secret often") {
			t.Errorf("%s: message %q, want one containing %q", name, got.Message, tc.message)
		}
	}
}

func TestWhichFailureCounts(t *testing.T) {
	t.Parallel()
	of := func(verdict v1alpha1.Verdict, reason string) *Error { return &Error{Verdict: verdict, Reason: reason} }
	refused := of(v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized)
	absent := of(v1alpha1.VerdictNotPullable, v1alpha1.ReasonNotFound)
	limited := of(v1alpha1.VerdictInconclusive, v1alpha1.ReasonRateLimited)
	for name, tc := range map[string]struct{ a, b, want *Error }{
		"first":             {nil, refused, refused},
		"same":              {refused, of(v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized), refused},
		"absent, refused":   {absent, refused, absent},
		"refused, absent":   {refused, absent, absent},
		"limited, absent":   {limited, absent, limited},
		"absent, limited":   {absent, limited, limited},
		"limited, network":  {limited, of(v1alpha1.VerdictInconclusive, v1alpha1.ReasonNetworkError), limited},
		"refused, limited":  {refused, limited, limited},
		"limited, and none": {limited, nil, limited},
	} {
		if got := saysMore(tc.a, tc.b); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	last := &Error{Host: "registry.test", Message: "gone", Reason: v1alpha1.ReasonNotFound}
	got := together([]*Error{{Host: "a.test", Reason: v1alpha1.ReasonTLSError, mirror: true}, {Host: "b.test", Reason: v1alpha1.ReasonNetworkError, mirror: true}, last})
	if got != last || got.Message != "gone; mirror a.test: TLSError; mirror b.test: NetworkError" {
		t.Errorf("together = %q", got.Message)
	}
	for reason, want := range map[string]bool{
		v1alpha1.ReasonUnauthorized: true, v1alpha1.ReasonNotFound: true, v1alpha1.ReasonRateLimited: true,
		v1alpha1.ReasonNetworkError: false, v1alpha1.ReasonTLSError: false, v1alpha1.ReasonRegistryError: false, v1alpha1.ReasonDigestMismatch: false,
	} {
		if got := anotherUserMayHelp(reason); got != want {
			t.Errorf("anotherUserMayHelp(%s) = %v", reason, got)
		}
	}
}
