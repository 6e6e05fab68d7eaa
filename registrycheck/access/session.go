package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// maxRedirects is what browsers and containerd allow before they call it a loop.
const maxRedirects = 10

// Kind is a kind of object in a repository, as it stands in URLs.
type Kind string

// Kinds.
const (
	Manifests Kind = "manifests"
	Blobs     Kind = "blobs"
	Referrers Kind = "referrers"
)

// Object is a manifest or blob of a repository.
type Object struct {
	Kind Kind
	// ID is a tag or a digest.
	ID string
}

// Session is a way into one repository as one user.
type Session struct {
	// Endpoint is where the session leads.
	Endpoint Endpoint
	client   *http.Client
}

// Open gives a session for the endpoint as the user, one used before if there is. A new
// one costs a request to /v2/ and, where the registry names a token server, one there.
// Errors: *BusyError, *LoginError, *PlainHTTPError, those of net/http and crypto/tls.
func (n *Network) Open(ctx context.Context, endpoint Endpoint, user authn.Authenticator) (*Session, error) {
	if endpoint.blocked != "" {
		return nil, &BlockedError{Host: endpoint.Host, Reason: endpoint.blocked}
	}
	auth, err := authn.Authorization(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("reading credential for %s: %w", endpoint.Host, err)
	}
	return n.sessions.get(ctx, sessionKey{endpoint, *auth}, func() (*Session, error) {
		return n.login(ctx, endpoint, user)
	})
}

// Known says whether a session of the user is at hand, so that Open costs nothing.
func (n *Network) Known(endpoint Endpoint, user authn.Authenticator) bool {
	auth, err := user.Authorization()
	return err == nil && n.sessions.has(sessionKey{endpoint, *auth})
}

// Forget drops the session of the user: the registry did not let it do what it was
// opened for.
func (n *Network) Forget(endpoint Endpoint, user authn.Authenticator) {
	if auth, err := user.Authorization(); err == nil {
		n.sessions.drop(sessionKey{endpoint, *auth})
	}
}

// login asks the registry how to log in and does it.
func (n *Network) login(ctx context.Context, endpoint Endpoint, user authn.Authenticator) (*Session, error) {
	var opts []name.Option
	if loopback(endpoint.Host) || endpoint.eitherWay {
		opts = append(opts, name.Insecure)
	}
	registry, err := name.NewRegistry(endpoint.Host, opts...)
	if err != nil {
		return nil, scrubbed(err)
	}
	sender := transport.NewUserAgent(greeter{wire{n, endpoint}}, n.userAgent)
	scopes := []string{"repository:" + endpoint.Repository + ":" + transport.PullScope}
	authorized, err := transport.NewWithContext(ctx, registry, user, sender, scopes)
	if err != nil {
		return nil, loginFailed(err)
	}
	client := &http.Client{Transport: authorized, CheckRedirect: n.checkRedirect}
	return &Session{Endpoint: endpoint, client: client}, nil
}

// Request asks for one object and gives the answer with status 200, whose body the
// caller closes. Errors: *StatusError for any other status,
// *RedirectError, and those of Open. Reading the body may give *TooLargeError.
func (s *Session) Request(ctx context.Context, method string, what Object, accept ...string) (*http.Response, error) {
	header := http.Header{}
	if len(accept) > 0 {
		header.Set("Accept", strings.Join(accept, ", "))
	}
	return s.send(ctx, method, what, header)
}

// Peek asks with GET for the first byte of an object, and is Request otherwise. The
// answer is 206, or 200 from servers that know no ranges: then the body is all of it.
func (s *Session) Peek(ctx context.Context, what Object) (*http.Response, error) {
	return s.send(ctx, http.MethodGet, what, http.Header{"Range": {"bytes=0-0"}})
}

// Stream asks for an object of that many bytes, however long, and is Request otherwise:
// reading beyond them gives *TooLargeError.
func (s *Session) Stream(ctx context.Context, what Object, size int64) (*http.Response, error) {
	return s.send(context.WithValue(ctx, limitKey{}, size), http.MethodGet, what, http.Header{})
}

// send makes one request, with its redirects.
func (s *Session) send(ctx context.Context, method string, what Object, header http.Header) (*http.Response, error) {
	// The scheme is put right by the session, which knows what the registry speaks.
	u := s.Endpoint.url("https", what)
	if s.Endpoint.Mirrors != "" && !s.Endpoint.silent {
		// As containerd does, for mirrors that serve several registries.
		u.RawQuery = url.Values{"ns": {s.Endpoint.Mirrors}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, scrubbed(err)
	}
	maps.Copy(req.Header, header)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, loginFailed(err) // a token may have been renewed on the way
	}
	partial := resp.StatusCode == http.StatusPartialContent && header.Get("Range") != ""
	if resp.StatusCode != http.StatusOK && !partial {
		defer func() { _ = resp.Body.Close() }()
		return nil, statusError(resp)
	}
	return resp, nil
}

// RedirectHosts gives the hosts besides the registry that an answer led to, in order.
func (s *Session) RedirectHosts(resp *http.Response) []string {
	var hosts []string
	for resp != nil && resp.Request != nil {
		if host := resp.Request.URL.Host; !(wire{endpoint: s.Endpoint}).own(resp.Request.URL) {
			hosts = append(hosts, host)
		}
		resp = resp.Request.Response
	}
	slices.Reverse(hosts)
	return hosts
}

// statusError reads an error answer to a request for an object.
func statusError(resp *http.Response) *StatusError {
	b, _ := io.ReadAll(resp.Body) // bounded; without it there are no codes
	var answer struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	e := &StatusError{
		Method:     resp.Request.Method,
		Scheme:     resp.Request.URL.Scheme,
		Host:       resp.Request.URL.Host,
		Path:       resp.Request.URL.Path,
		StatusCode: resp.StatusCode,
	}
	if json.Unmarshal(b, &answer) == nil {
		for _, one := range answer.Errors[:min(len(answer.Errors), maxCodes)] {
			e.Codes = append(e.Codes, Scrub(one.Code))
			e.Message = Scrub(strings.TrimSpace(e.Message + " " + one.Message))
		}
	}
	return e
}

// loginFailed turns refusals of /v2/ and of token servers into *LoginError and makes
// all other errors safe to print.
func loginFailed(err error) error {
	refused, ok := errors.AsType[*transport.Error](err)
	if !ok {
		return scrubbed(err)
	}
	e := &LoginError{StatusCode: refused.StatusCode, Err: scrubbed(err)}
	if refused.Request != nil {
		e.Scheme, e.Host, e.Path = refused.Request.URL.Scheme, refused.Request.URL.Host, refused.Request.URL.Path
	}
	if len(refused.Errors) > 0 {
		e.Message = Scrub(refused.Errors[0].Message)
	}
	return e
}
