package fetch

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"

	"edgecache.dev/api/imageref"
	"edgecache.dev/internal/dialguard"
)

// Witness hears how connections to registries fare. A registry is named as in image
// references, whichever of its mirrors was asked. Methods are called often and concurrently.
type Witness interface {
	// Reached notes an answer, of whatever kind.
	Reached(registry string)
	// Missed notes that no host of the registry was reached, or that a connection broke.
	Missed(registry string)
	// Received notes bytes of a blob.
	Received(registry string, n int)
}

// nobody hears nothing.
type nobody struct{}

func (nobody) Reached(string)       {}
func (nobody) Missed(string)        {}
func (nobody) Received(string, int) {}

// witness tells how a request went. A call that was cancelled, and an address that is not
// connected to on principle, say nothing of the link.
func (r *repository) witness(ctx context.Context, err error) {
	w, registry := r.registry.options.Witness, r.name.Registry()
	e, ours := errors.AsType[*Error](err)
	switch {
	case err == nil:
		w.Reached(registry)
	case context.Cause(ctx) != nil || !ours:
	case e.Reason == NetworkError:
		w.Missed(registry)
	case e.Status != 0:
		w.Reached(registry)
	}
}

// witnessed gives a body whose bytes and end are told.
func (r *repository) witnessed(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	return &witnessedBody{
		ReadCloser: body, witness: r.registry.options.Witness, registry: r.name.Registry(),
		cause: func() error { return context.Cause(ctx) },
	}
}

type witnessedBody struct {
	io.ReadCloser

	witness  Witness
	registry string
	cause    func() error // why the request ended, nil while it did not
}

// Read reads, and tells.
func (b *witnessedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.witness.Received(b.registry, n)
	}
	if cause := b.cause(); err != nil && err != io.EOF && (cause == nil || errors.Is(cause, errStalled)) {
		b.witness.Missed(b.registry)
	}
	return n, err
}

// Probe asks whether a registry, as image references name it, or one of its mirrors is
// there, by the way that pulls take. It reads no more than the head of the answer to /v2/,
// which is any: who asks need not be let in.
func (r *Registry) Probe(ctx context.Context, registry string) error {
	name, err := imageref.Parse(registry + "/probe")
	if err != nil {
		return refuse("probing registry %s: no name of a registry", registry)
	}
	repo := &repository{registry: r, name: name, rejected: map[string]bool{}, logins: map[string]*logins{}}
	if err := repo.configure(ctx); err != nil {
		return err
	}
	defer func() { _ = repo.Close() }() // only lets go of idle connections
	ctx = dialguard.Trust(ctx, repo.addresses()...)
	var last error
	for _, h := range repo.hosts() {
		u := url.URL{Scheme: h.Scheme, Host: h.Host, Path: path.Join("/", h.Path) + "/"}
		req, err := http.NewRequestWithContext(withContent(ctx), http.MethodGet, u.String(), nil)
		if err != nil {
			return refuse("probing registry %s: the host configuration gives no valid address", registry)
		}
		req.Header.Set("User-Agent", r.userAgent)
		only := *h.Client
		only.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := only.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			return nil
		}
		last = connectionError(ctx, h.Host, err)
	}
	return last
}
