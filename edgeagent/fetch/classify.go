package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"

	"edgecache.dev/internal/dialguard"
)

// errStalled is why a connection was cut that had gone silent.
var errStalled = errors.New("connection went silent")

// connectionError says what the failure of a connection means. A cancelled context stays
// what it is; the URL that net/http adds to every error is dropped, since redirect targets
// are often signed.
func connectionError(ctx context.Context, host string, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errStalled) {
		return cause
	}
	for {
		ue, ok := errors.AsType[*url.Error](err)
		if !ok {
			break
		}
		err = ue.Err
	}
	if refused, ok := errors.AsType[*dialguard.RefusedError](err); ok {
		return &Error{Reason: RegistryError, Host: host, Err: refused}
	}
	if tlsErr := tlsError(err, time.Now()); tlsErr != nil {
		return &Error{Reason: TLSError, Host: host, Err: tlsErr}
	}
	return &Error{Reason: NetworkError, Host: host, Err: err}
}

// tlsError gives the error of a TLS handshake in words, nil when err is something else.
func tlsError(err error, now time.Time) error {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired && invalid.Cert != nil {
		return validity(invalid.Cert, now)
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return errors.New("the server speaks plain HTTP, not HTTPS")
	}
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, hostname := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	if verification || unknown || hostname || invalid || record || alert {
		return err
	}
	return nil
}

// validity says that a certificate is not valid at the node's time. Boxes without a
// battery-backed clock begin in the past, so the clock is named as a possible cause.
func validity(cert *x509.Certificate, now time.Time) error {
	const day = "2006-01-02 15:04 MST"
	clock := "the clock of this node says " + now.UTC().Format(day) + ", which may be wrong"
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("certificate is not valid before %s: %s", cert.NotBefore.UTC().Format(day), clock)
	}
	return fmt.Errorf("certificate expired at %s: %s", cert.NotAfter.UTC().Format(day), clock)
}

// tokenError says what a failure to get a token means. Token servers are named by the
// registry; their URLs are not repeated.
func tokenError(ctx context.Context, host string, err error) error {
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		e := &Error{Host: host, Status: status.StatusCode, Reason: Unauthorized, Err: fmt.Errorf("%w: refused by the token server", errToken)}
		switch {
		case status.StatusCode == http.StatusTooManyRequests:
			e.Reason = RateLimited
		case passing(status.StatusCode):
			e.Reason = RegistryError
		}
		return e
	}
	if errors.Is(err, docker.ErrInvalidAuthorization) {
		return &Error{Reason: Unauthorized, Host: host, Err: fmt.Errorf("%w: refused", errToken)}
	}
	_, isURL := errors.AsType[*url.Error](err)
	if isURL || errors.Is(err, io.ErrUnexpectedEOF) || context.Cause(ctx) != nil {
		err = connectionError(ctx, host, err)
		if e, ok := errors.AsType[*Error](err); ok {
			e.Err = fmt.Errorf("%w: %w", errToken, e.Err)
		}
		return err
	}
	return &Error{Reason: Unauthorized, Host: host, Err: fmt.Errorf("%w: the answer holds none", errToken)}
}

// scrubbed makes sure that an error does not repeat the credential of a request, which a
// server that speaks no proper HTTP may have echoed.
func scrubbed(err error, authorization string) error {
	_, credential, ok := strings.Cut(authorization, " ")
	if !ok || err == nil {
		return err
	}
	secrets := []string{credential}
	if plain, derr := base64.StdEncoding.DecodeString(credential); derr == nil {
		_, password, _ := strings.Cut(string(plain), ":")
		secrets = append(secrets, password)
	}
	for _, s := range secrets {
		if e, isOurs := errors.AsType[*Error](err); isOurs && s != "" && strings.Contains(e.Err.Error(), s) {
			e.Err = errors.New("connection failed; the answer repeated the credential")
		}
	}
	return err
}
