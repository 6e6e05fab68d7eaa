package resolve

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/dialguard"
	"edgecache.dev/registrycheck/access"
)

// Short names of the two verdicts of an Error.
const (
	final = v1alpha1.VerdictNotPullable
	again = v1alpha1.VerdictInconclusive
)

// explain judges a failure. The order matters: a joined error of two tries, with and
// without TLS, is judged by what happened with TLS, unless TLS is not spoken there.
func explain(err error, a attempt) *Error {
	e := judge(err, a)
	e.Err, e.Endpoint, e.URL = err, a.at.Host, urlOf(err, a)
	return e
}

func judge(err error, a attempt) *Error {
	for _, judge := range []func(error, attempt) *Error{
		ofContent, ofBusy, ofTLS, ofStatus, ofLogin, ofNetwork, ofPolicy,
	} {
		if e := judge(err, a); e != nil {
			return e
		}
	}
	return judgement{again, v1alpha1.ReasonRegistryError, a.at.Host, "check that it is a registry"}.
		because("%s gave an answer that makes no sense (%s)", a.at.Host, access.Scrub(err.Error()))
}

// ofContent judges what was read without a failure.
func ofContent(err error, a attempt) *Error {
	host := a.at.Host
	if wrong, ok := errors.AsType[*mismatchError](err); ok {
		return judgement{final, v1alpha1.ReasonDigestMismatch, host, "the registry's storage or a proxy on the way is damaged; push the image again"}.
			because("%s sent other bytes than asked for as %s (%v)", host, wrong.what, wrong)
	}
	if wrong, ok := errors.AsType[*invalidError](err); ok {
		return judgement{final, v1alpha1.ReasonInvalidImage, host, ""}.
			because("%s cannot be pulled from %s: %s", a.ref, host, wrong.what)
	}
	if strange, ok := errors.AsType[*strangeError](err); ok {
		return judgement{again, v1alpha1.ReasonRegistryError, host, "check that it is a registry and that no portal or proxy answers in its place"}.
			because("%s: %v", host, strange)
	}
	if _, ok := errors.AsType[*access.TooLargeError](err); ok {
		return judgement{final, v1alpha1.ReasonInvalidImage, host, "runtimes refuse it, build a smaller one"}.
			because("manifest or configuration of %s has more than %d MiB", a.ref, access.MaxBodyBytes>>20)
	}
	if errors.Is(err, errNoLinux) {
		return judgement{final, v1alpha1.ReasonPlatformMissing, host, "build it for linux"}.
			because("%s: %v", a.ref, err)
	}
	return nil
}

func ofBusy(err error, a attempt) *Error {
	busy, ok := errors.AsType[*access.BusyError](err)
	if !ok {
		return nil
	}
	reason, todo := v1alpha1.ReasonRateLimited, "it is tried again later; lower the number of requests or raise the quota"
	if busy.StatusCode != http.StatusTooManyRequests {
		reason, todo = v1alpha1.ReasonRegistryError, "it is tried again later"
	} else if a.used.Anonymous() {
		todo = "it is tried again later; a pull Secret often has a higher quota"
	}
	e := judgement{again, reason, busy.Host, todo}.because("%v", busy)
	e.RetryAfter = busy.RetryAfter
	return e
}

// ofTLS judges certificates and TLS itself.
func ofTLS(err error, a attempt) *Error {
	host := hostOf(err, a)
	tlsError := func(todo, format string, args ...any) *Error {
		return judgement{again, v1alpha1.ReasonTLSError, host, todo}.because(format, args...)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return tlsError("name the CA as caFile in the registry settings", "certificate of %s is signed by a CA that is not trusted", host)
	}
	if wrong, ok := errors.AsType[x509.HostnameError](err); ok {
		return tlsError("use a name that it is for, or renew it", "certificate is not for %s", cmp.Or(wrong.Host, host))
	}
	if wrong, ok := errors.AsType[x509.CertificateInvalidError](err); ok && wrong.Reason == x509.Expired {
		return tlsError("set the clock of this machine, or renew the certificate",
			"certificate of %s is expired or not yet valid (%s)", host, wrong.Detail)
	}
	if errors.Is(err, http.ErrSchemeMismatch) && !a.at.TriesPlain() {
		return tlsError("set plainHTTP for it in the registry settings if its network can be trusted", "%s speaks plain HTTP", host)
	}
	if wrong, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return tlsError("renew it", "certificate of %s is not valid (%v)", host, wrong.Err)
	}
	if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == "remote error" { // how crypto/tls wraps alerts
		return tlsError("check which TLS versions and client certificates it wants", "%s refuses TLS (%s)", host, innermost(alert))
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return tlsError("check host, port and proxy", "%s does not speak TLS (%s)", host, record.Msg)
	}
	return nil
}

// ofStatus judges a registry's answer to a request for a manifest or blob.
func ofStatus(err error, a attempt) *Error {
	status, ok := errors.AsType[*access.StatusError](err)
	if !ok {
		return nil
	}
	said := func(codes ...string) bool {
		return slices.ContainsFunc(codes, func(c string) bool { return slices.Contains(status.Codes, c) })
	}
	elsewhere := status.Host != a.at.Host
	switch code := status.StatusCode; {
	case elsewhere && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		return judgement{again, v1alpha1.ReasonRegistryError, status.Host, "check the clocks of this machine and of the registry, and firewalls"}.
			because("%s, where %s keeps its data, answers %d", status.Host, a.at.Host, code)
	case code == http.StatusUnauthorized || code == http.StatusForbidden || said("UNAUTHORIZED", "DENIED"):
		return unauthorized(status.Host, status, a)
	case code == http.StatusNotFound || said("MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN"):
		return notFound(status, a)
	case said("NAME_INVALID", "TAG_INVALID", "DIGEST_INVALID"):
		return judgement{final, v1alpha1.ReasonInvalidReference, status.Host, "check its spelling"}.
			because("%s does not accept the name %s (%v)", status.Host, a.ref, status)
	}
	return judgement{again, v1alpha1.ReasonRegistryError, status.Host, "it is tried again later"}.
		because("%v", status)
}

// isNotFound says whether a registry answered that it does not hold the object.
func isNotFound(err error) bool {
	status, ok := errors.AsType[*access.StatusError](err)
	return ok && status.StatusCode == http.StatusNotFound
}

func notFound(status *access.StatusError, a attempt) *Error {
	what, todo := a.ref.String(), "check repository and tag, or push it"
	if _, id, ok := strings.Cut(status.Path, "/"+string(access.Blobs)+"/"); ok {
		what, todo = "part "+id+" of "+what, "push the image again"
	} else if _, id, ok := strings.Cut(status.Path, "/"+string(access.Manifests)+"/"); ok && id != identifier(a.ref) {
		what, todo = "manifest "+id+", which the index of "+what+" names", "push the image again"
	} else if a.used.Anonymous() {
		todo += "; if it is private, add a pull Secret"
	}
	return judgement{final, v1alpha1.ReasonNotFound, status.Host, todo}.
		because("%s has no %s (%d)", status.Host, what, status.StatusCode)
}

// unauthorized words a refusal. Many registries answer so too when there is no such
// image.
func unauthorized(host string, refusal error, a attempt) *Error {
	if a.used.Anonymous() {
		return judgement{final, v1alpha1.ReasonUnauthorized, host, "add a pull Secret, or check the name: registries do not tell a private image from none"}.
			because("%s is not given to anonymous users (%v)", a.ref, refusal)
	}
	return judgement{final, v1alpha1.ReasonUnauthorized, host, "check the pull Secrets, or the name: registries do not tell a private image from none"}.
		because("%s is not given to any of %d matching credentials, the last one: %v (%v)", a.ref, len(a.users), a.used, refusal)
}

// ofLogin judges refusals on the way in.
func ofLogin(err error, a attempt) *Error {
	login, ok := errors.AsType[*access.LoginError](err)
	if !ok {
		return nil
	}
	switch code := login.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden,
		code == http.StatusBadRequest && login.TokenServer() && !a.used.Anonymous(): // OAuth: invalid_grant
		return unauthorized(login.Host, login, a)
	case code == http.StatusNotFound && !login.TokenServer():
		return judgement{again, v1alpha1.ReasonRegistryError, login.Host, "check host and port"}.
			because("%s does not answer as a registry (404 for /v2/)", login.Host)
	}
	return judgement{again, v1alpha1.ReasonRegistryError, login.Host, "it is tried again later"}.because("%v", login)
}

// ofNetwork judges connections that did not come about or broke, and time that ran out.
func ofNetwork(err error, a attempt) *Error {
	host := hostOf(err, a)
	network := func(todo, format string, args ...any) *Error {
		return judgement{again, v1alpha1.ReasonNetworkError, host, todo}.because(format, args...)
	}
	dial, _ := errors.AsType[*net.OpError](err)
	if dial != nil && dial.Op == "proxyconnect" {
		return network("check the proxy in the registry settings or HTTPS_PROXY", "proxy for %s is not reached (%s)", host, innermost(dial.Err))
	}
	if strings.Contains(err.Error(), http.StatusText(http.StatusProxyAuthRequired)) { // the library has no type for it
		return network("give the proxy's URL a user and password", "proxy for %s wants a log-in", host)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return network("check the host's spelling and the DNS of this machine", "host %s is not known to DNS", dns.Name)
		}
		return network("check the DNS of this machine", "DNS gives no answer for %s", dns.Name)
	}
	if errors.Is(err, context.Canceled) {
		return network("", "looking up %s was cancelled", a.ref)
	}
	timeout, ok := errors.AsType[net.Error](err)
	if errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return network("check the link and firewalls, it is tried again later", "%s did not answer in time", host)
	}
	if dial != nil {
		return network("check the link, host and port, it is tried again later", "%s is not reached (%s)", host, innermost(dial))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return network("it is tried again later", "connection to %s was lost", host)
	}
	return nil
}

// ofPolicy judges what was not sent because the settings forbid it.
func ofPolicy(err error, a attempt) *Error {
	if plain, ok := errors.AsType[*access.PlainHTTPError](err); ok {
		return judgement{again, v1alpha1.ReasonTLSError, plain.Host, "set plainHTTP for it in the registry settings if its network can be trusted"}.
			because("%s would be asked without TLS", plain.Host)
	}
	if refused, ok := errors.AsType[*dialguard.RefusedError](err); ok {
		return judgement{again, v1alpha1.ReasonRegistryError, refused.Host, ""}.because("%s leads elsewhere: %v", a.at.Host, refused)
	}
	if redirect, ok := errors.AsType[*access.RedirectError](err); ok {
		return judgement{again, v1alpha1.ReasonRegistryError, redirect.Host, "correct the registry's configuration"}.
			because("%s gives a %v, which is not followed", a.at.Host, redirect)
	}
	return nil
}

// hostOf finds the host that a failure is about: a token server or blob store has its
// own. The innermost URL is that of the request that failed.
func hostOf(err error, a attempt) string {
	if u := urlIn(err); u != nil {
		return u.Host
	}
	return a.at.Host
}

// urlIn gives the innermost URL that an error names, nil without.
func urlIn(err error) (found *url.URL) {
	for err != nil {
		if u, ok := err.(*url.Error); ok { //nolint:errorlint // each level is looked at
			if parsed, perr := url.Parse(u.URL); perr == nil && parsed.Host != "" {
				found = parsed
			}
		}
		err = errors.Unwrap(err)
	}
	return found
}

// urlOf finds the request that a failure is about.
func urlOf(err error, a attempt) string {
	at := func(scheme, host, path string) string {
		return (&url.URL{Scheme: scheme, Host: host, Path: path}).String()
	}
	if e, ok := errors.AsType[*access.StatusError](err); ok {
		return at(e.Scheme, e.Host, e.Path)
	}
	if e, ok := errors.AsType[*access.BusyError](err); ok {
		return at(e.Scheme, e.Host, e.Path)
	}
	if e, ok := errors.AsType[*access.LoginError](err); ok {
		return at(e.Scheme, e.Host, e.Path)
	}
	if u := urlIn(err); u != nil && u.Host != a.at.Host {
		return at(u.Scheme, u.Host, u.Path)
	}
	return a.at.URL(a.asked())
}

// innermost gives the end of a network error's text: "connection refused".
func innermost(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return access.Scrub(err.Error())
}
