package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/internal/dialguard"
)

const (
	// maxAnswer bounds what is read of a token server or of an error, in bytes.
	maxAnswer = 1 << 20
	// tokenTimeout bounds getting a token.
	tokenTimeout = time.Minute
	// documentTimeout bounds reading a manifest: 4 MiB at 70 kB/s.
	documentTimeout = time.Minute
	// maxRedirects is what containerd and Go allow.
	maxRedirects = 10
	// maxRounds bounds the answers 401 to one request: no token, wrong scope, refused.
	maxRounds = 3
)

// Manifest reads a manifest or index from the first host that has it.
func (r *repository) Manifest(ctx context.Context, d digest.Digest) ([]byte, error) {
	var body []byte
	err := r.ask(ctx, request{kind: "manifests", object: d.String(), header: manifests()}, func(host string, resp *http.Response) error {
		var err error
		body, err = readDocument(ctx, host, resp.Body)
		if err == nil && d.Algorithm().FromBytes(body) != d {
			err = mismatch(host, d.Algorithm().FromBytes(body), d)
		}
		return err
	})
	return body, err
}

// manifests is the header of requests for manifests and indexes.
func manifests() http.Header {
	return http.Header{"Accept": {strings.Join([]string{
		images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2ManifestList,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	}, ", ")}}
}

// readDocument reads an answer whole.
func readDocument(ctx context.Context, host string, r io.ReadCloser) ([]byte, error) {
	defer func() { _ = r.Close() }()
	timeout := time.AfterFunc(documentTimeout, func() { _ = r.Close() })
	body, err := io.ReadAll(io.LimitReader(r, MaxDocument+1))
	inTime := timeout.Stop()
	switch {
	case !inTime:
		return nil, &Error{Reason: NetworkError, Host: host, Err: fmt.Errorf("manifest did not arrive within %s", documentTimeout)}
	case err != nil:
		return nil, connectionError(ctx, host, err)
	case len(body) > MaxDocument:
		return nil, &Error{Reason: RegistryError, Host: host, Err: fmt.Errorf("manifest has more than %d bytes", MaxDocument)}
	}
	return body, nil
}

// mismatch names both digests.
func mismatch(host string, got, want digest.Digest) error {
	return &Error{Reason: DigestMismatch, Host: host, Err: fmt.Errorf("digest mismatch: got %s, want %s", got, want)}
}

// Blob begins to read a blob from the first host that has it.
func (r *repository) Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (*Stream, error) {
	header := http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"identity"}}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	var s *Stream
	err := r.ask(ctx, request{kind: "blobs", object: desc.Digest.String(), header: header}, func(host string, resp *http.Response) error {
		skip, err := checkBlob(headOf(host, resp), desc.Size, offset)
		if err != nil {
			_ = resp.Body.Close()
			return err
		}
		s = &Stream{
			Body: r.witnessed(ctx, resp.Body), Skip: skip, Host: host,
			Reject: func() bool { return r.reject(host) }, Barren: func() { r.passOver(host) },
		}
		return nil
	})
	return s, err
}

// request is what is asked of each host in turn.
type request struct {
	method string // GET where it is ""
	kind   string // manifests or blobs
	object string // a digest, or the tag of a manifest
	header http.Header
	// resolves asks only hosts that may say what a tag stands for.
	resolves bool
}

// ask sends a request to host after host until use accepts an answer, and has it witnessed
// how that went. The error is that of the last host, which is the registry itself where
// mirrors come before it: a mirror that lacks an image or is down says nothing about the
// image.
func (r *repository) ask(ctx context.Context, q request, use func(host string, resp *http.Response) error) error {
	err := r.askEach(dialguard.Trust(ctx, r.addresses()...), q, use)
	r.witness(ctx, err)
	return err
}

func (r *repository) askEach(ctx context.Context, q request, use func(host string, resp *http.Response) error) error {
	var err error = &Error{Reason: RegistryError, Err: errors.New("the host configuration allows no host to be asked for tags")}
	for _, h := range r.hosts() {
		if q.resolves && !h.Capabilities.Has(docker.HostCapabilityResolve) {
			continue
		}
		var resp *http.Response
		if resp, err = r.send(ctx, h, q); err == nil { //nolint:bodyclose // use closes it
			// Wherever redirects ended, bytes and blame are those of the configured host.
			if err = use(h.Host, resp); err == nil {
				return nil
			}
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	return fmt.Errorf("fetching %s %s: %w", strings.TrimSuffix(q.kind, "s"), q.object, err)
}

// send asks one host, with one login after the other for as long as they are refused. The
// error is then that of the first one, which is the one that is meant to be used.
func (r *repository) send(ctx context.Context, h docker.RegistryHost, q request) (*http.Response, error) {
	all := r.loginsFor(h.Host)
	var first error
	for {
		turn := all.at()
		resp, err := r.sendAs(ctx, h, q)
		if err == nil || !refused(q, err) {
			return resp, err
		}
		first = cmp.Or(first, err)
		if !all.next(turn) || r.configure(ctx) != nil {
			return nil, first
		}
		i := slices.IndexFunc(r.hosts(), func(fresh docker.RegistryHost) bool { return fresh.Host == h.Host })
		if i < 0 {
			return nil, first
		}
		h = r.hosts()[i]
	}
}

// refused says whether another login may be answered otherwise. Some registries say of what
// somebody may not see that it is not there.
func refused(q request, err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Reason == Unauthorized || e.Reason == NotFound && q.kind == "manifests")
}

// sendAs asks one host as the login whose turn it is. A refusal of a token that was kept
// from an earlier request may only mean that it has expired: then a new one is fetched.
func (r *repository) sendAs(ctx context.Context, h docker.RegistryHost, q request) (*http.Response, error) {
	resp, kept, err := r.authenticated(ctx, h, q)
	if err == nil || !kept && !errors.Is(err, errToken) {
		return resp, err
	}
	if cerr := r.configure(ctx); cerr != nil || !kept || !isUnauthorized(err) {
		return nil, err
	}
	for _, fresh := range r.hosts() {
		if fresh.Host == h.Host {
			resp, _, err = r.authenticated(ctx, fresh, q)
			break
		}
	}
	return resp, err
}

func isUnauthorized(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason == Unauthorized
}

// authenticated sends a request and answers challenges. kept says that the first attempt
// carried a credential from an earlier request.
func (r *repository) authenticated(ctx context.Context, h docker.RegistryHost, q request) (_ *http.Response, kept bool, _ error) {
	var challenges []*http.Response
	for {
		req, err := r.build(ctx, h, q)
		if err == nil {
			err = r.authorize(ctx, h, req)
		}
		if err != nil {
			return nil, kept, err
		}
		kept = kept || len(challenges) == 0 && req.Header.Get("Authorization") != ""
		resp, err := client(h).Do(req)
		if err != nil {
			return nil, kept, scrubbed(connectionError(ctx, h.Host, err), req.Header.Get("Authorization"))
		}
		if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return resp, kept, nil
		}
		err = statusError(headOf(h.Host, resp), readAnswer(resp))
		challenges = append(challenges, resp)
		if !r.answerable(ctx, h, challenges) {
			return nil, kept, err
		}
	}
}

// answerable says whether the last refusal is a challenge of the host itself that can now
// be answered, by its authorizer or with what needs none.
func (r *repository) answerable(ctx context.Context, h docker.RegistryHost, challenges []*http.Response) bool {
	last := challenges[len(challenges)-1]
	if last.StatusCode != http.StatusUnauthorized || len(challenges) >= maxRounds || last.Request.URL.Host != h.Host {
		return false
	}
	all := r.loginsFor(h.Host)
	if all.offer() {
		return true
	}
	return all.token() == "" && h.Authorizer != nil && h.Authorizer.AddResponses(ctx, challenges) == nil
}

// build makes the request, without credentials.
func (r *repository) build(ctx context.Context, h docker.RegistryHost, q request) (*http.Request, error) {
	u := url.URL{
		Scheme: h.Scheme, Host: h.Host,
		Path: path.Join("/", h.Path, r.name.Repository(), q.kind, q.object),
	}
	if r.isMirror(h) {
		u.RawQuery = url.Values{"ns": {r.name.Registry()}}.Encode()
	}
	req, err := http.NewRequestWithContext(withContent(ctx), cmp.Or(q.method, http.MethodGet), u.String(), nil)
	if err != nil {
		return nil, &Error{Reason: RegistryError, Host: h.Host, Err: errors.New("host configuration gives no valid address")}
	}
	for key, values := range h.Header {
		req.Header[key] = append(req.Header[key], values...)
	}
	maps.Copy(req.Header, q.header)
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", r.registry.userAgent)
	}
	return req, nil
}

// errToken marks failures to get a token.
var errToken = errors.New("getting a token")

// authorize adds the credential that the host is known to want.
func (r *repository) authorize(ctx context.Context, h docker.RegistryHost, req *http.Request) error {
	if token := r.loginsFor(h.Host).token(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
	if h.Authorizer == nil {
		return nil
	}
	tctx, cancel := context.WithTimeout(docker.WithScope(ctx, r.scope()), tokenTimeout)
	defer cancel()
	if err := h.Authorizer.Authorize(tctx, req); err != nil {
		return tokenError(ctx, h.Host, err)
	}
	return nil
}

// client gives the host's client with our rule for redirects.
func client(h docker.RegistryHost) *http.Client {
	c := *h.Client
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		req.Header.Del("Referer")
		if !sameOrigin(req.URL, via[0].URL) {
			dropSecrets(req.Header, h.Header)
		}
		return nil
	}
	return &c
}

// sameOrigin compares scheme, host and port: Go itself would send the credentials also to
// another port and over plain HTTP.
func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

// dropSecrets removes what was meant for the registry only: credentials, and every header
// that hosts.toml adds, since those may be credentials as well.
func dropSecrets(header, configured http.Header) {
	for _, key := range []string{"Authorization", "Proxy-Authorization", "Cookie", "Cookie2"} {
		header.Del(key)
	}
	for key := range configured {
		delete(header, key)
		header.Del(key)
	}
}

// contentKey marks the requests for manifests and blobs, which are bounded by their
// readers. What has no mark is a token request that containerd's authorizer makes.
type contentKey struct{}

func withContent(ctx context.Context) context.Context {
	return context.WithValue(ctx, contentKey{}, true)
}

// capped bounds the answers of token servers, which the authorizer reads whole.
type capped struct{ http.RoundTripper }

// RoundTrip sends a request and bounds the answer.
func (c capped) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil && req.Context().Value(contentKey{}) == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// CloseIdleConnections is how http.Client reaches the transport below.
func (c capped) CloseIdleConnections() {
	if t, ok := c.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// readAnswer reads an error body, whole as a rule, so that the connection can be reused.
func readAnswer(resp *http.Response) []byte {
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return b
}
