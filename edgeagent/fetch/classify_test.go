package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
)

func TestConnectionError(t *testing.T) {
	t.Parallel()
	inURL := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://user:s3cret@cdn.example/blob?X-Amz-Signature=s3cret", Err: err}
	}
	now := time.Now()
	cert := func(from, to time.Duration) error {
		return x509.CertificateInvalidError{Reason: x509.Expired, Cert: &x509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(to)}}
	}
	tests := map[string]struct {
		err    error
		reason Reason
		text   string
	}{
		"refused":          {inURL(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), NetworkError, "connection refused"},
		"no such host":     {inURL(&net.DNSError{Err: "no such host", Name: "registry.example"}), NetworkError, "no such host"},
		"cut":              {io.ErrUnexpectedEOF, NetworkError, "unexpected EOF"},
		"redirected twice": {inURL(inURL(io.EOF)), NetworkError, "EOF"},
		"not yet valid":    {inURL(&tls.CertificateVerificationError{Err: cert(time.Hour, 2*time.Hour)}), TLSError, "not valid before"},
		"expired":          {inURL(cert(-2*time.Hour, -time.Hour)), TLSError, "the clock of this node says"},
		"unknown CA":       {inURL(x509.UnknownAuthorityError{}), TLSError, "unknown authority"},
		"wrong name":       {inURL(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"}), TLSError, "a"},
		"alert":            {inURL(tls.AlertError(40)), TLSError, "handshake"},
		"plain HTTP":       {inURL(http.ErrSchemeMismatch), TLSError, "plain HTTP"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := errors.AsType[*Error](connectionError(t.Context(), "registry.example", tc.err))
			if !ok || got.Reason != tc.reason || !strings.Contains(got.Error(), tc.text) {
				t.Errorf("error = %v, want %s with %q", got, tc.reason, tc.text)
			}
			if strings.Contains(got.Error(), "s3cret") || strings.Contains(got.Error(), "cdn.example") {
				t.Errorf("error repeats the URL: %v", got)
			}
			if !Transient(got) {
				t.Errorf("%v is permanent, want transient", got)
			}
		})
	}
}

func TestCancellingIsNoError(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	for _, got := range []error{
		connectionError(ctx, "h", &url.Error{Err: context.Canceled}),
		tokenError(ctx, "h", &url.Error{Err: context.Canceled}),
		storeError(ctx, "writing", errors.New("stream ended")),
	} {
		if !errors.Is(got, stop) {
			t.Errorf("error = %v, want %v", got, stop)
		}
		if _, ok := errors.AsType[*Error](got); ok {
			t.Errorf("%v is an *Error", got)
		}
	}
}

func TestTokenError(t *testing.T) {
	t.Parallel()
	status := func(code int) error {
		return fmt.Errorf("failed to fetch oauth token: %w", remoteerrors.ErrUnexpectedStatus{
			StatusCode: code, RequestURL: "https://auth.example/token?account=s3cret", Body: []byte("s3cret"),
		})
	}
	tests := map[string]struct {
		err    error
		reason Reason
	}{
		"refused":      {status(401), Unauthorized},
		"bad request":  {status(400), Unauthorized},
		"limited":      {status(429), RateLimited},
		"broken":       {status(502), RegistryError},
		"no network":   {&url.Error{URL: "https://s3cret", Err: syscall.ENETUNREACH}, NetworkError},
		"cut":          {fmt.Errorf("unable to decode token response: %w", io.ErrUnexpectedEOF), NetworkError},
		"bad TLS":      {&url.Error{URL: "https://s3cret", Err: x509.UnknownAuthorityError{}}, TLSError},
		"no token":     {errors.New("authorization server did not include a token in the response: s3cret"), Unauthorized},
		"wrong rights": {fmt.Errorf("server message: s3cret: %w", docker.ErrInvalidAuthorization), Unauthorized},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := errors.AsType[*Error](tokenError(t.Context(), "h", tc.err))
			if !ok || got.Reason != tc.reason || !errors.Is(got, errToken) {
				t.Errorf("error = %#v, want %s", got, tc.reason)
			}
			if strings.Contains(got.Error(), "s3cret") {
				t.Errorf("error repeats the answer: %v", got)
			}
		})
	}
}

func TestScrubbed(t *testing.T) {
	t.Parallel()
	basic := base64.StdEncoding.EncodeToString([]byte("user:s3cret"))
	tests := map[string]struct{ authorization, text string }{
		"basic":    {"Basic " + basic, "malformed HTTP response " + basic},
		"password": {"Basic " + basic, "malformed HTTP response s3cret"},
		"bearer":   {"Bearer s3cret", "malformed HTTP response s3cret"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := scrubbed(&Error{Reason: NetworkError, Err: errors.New(tc.text)}, tc.authorization).Error()
			if strings.Contains(got, "s3cret") || strings.Contains(got, basic) {
				t.Errorf("error = %q", got)
			}
		})
	}
	plain := &Error{Reason: NetworkError, Err: errors.New("connection reset")}
	if got := scrubbed(plain, "Basic "+basic).Error(); got != "connection reset" {
		t.Errorf("error = %q, want it unchanged", got)
	}
}

func TestTransient(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want bool
	}{
		{&Error{Reason: NetworkError}, true}, {&Error{Reason: TLSError}, true}, {&Error{Reason: RateLimited}, true},
		{&Error{Reason: RuntimeError}, true}, {&Error{Reason: InsufficientDisk}, true},
		{&Error{Reason: RegistryError, Status: 502}, true}, {&Error{Reason: RegistryError, Status: 408}, true},
		{&Error{Reason: RegistryError, Status: 400}, false}, {&Error{Reason: RegistryError}, false},
		{&Error{Reason: NotFound}, false}, {&Error{Reason: Unauthorized}, false},
		{&Error{Reason: DigestMismatch}, false}, {&Error{Reason: PlatformMissing}, false},
		{errors.New("what no one knows"), true},
	}
	for _, tc := range tests {
		if e, ok := errors.AsType[*Error](tc.err); ok {
			e.Err = errors.New(string(e.Reason))
		}
		if got := Transient(fmt.Errorf("pulling: %w", tc.err)); got != tc.want {
			t.Errorf("Transient(%v) = %v, want %v", tc.err, got, tc.want)
		}
	}
}

func TestStoreError(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]Reason{
		syscall.ENOSPC: InsufficientDisk,
		errors.New("rpc: write /x: no space left on device"): InsufficientDisk,
		errors.New("connection refused"):                     RuntimeError,
	} {
		got, ok := errors.AsType[*Error](storeError(t.Context(), "writing", err))
		if !ok || got.Reason != want {
			t.Errorf("storeError(%v) = %v, want %s", err, got, want)
		}
	}
}
