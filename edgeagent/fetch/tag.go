package fetch

import (
	"context"
	"errors"
	"net/http"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
)

// Digest asks what a tag stands for: the hosts that may be asked for tags, with the node's
// own configuration and logins, as for a pull. A registry that does not name the digest
// sends the manifest instead. Nothing is stored.
func (r *Registry) Digest(ctx context.Context, name imageref.Reference) (digest.Digest, error) {
	repo := &repository{registry: r, name: name, rejected: map[string]bool{}, logins: map[string]*logins{}}
	if err := repo.configure(ctx); err != nil {
		return "", err
	}
	d, err := repo.named(ctx)
	if err == nil && d == "" || unnamed(err) {
		d, err = repo.computed(ctx)
	}
	_ = repo.Close() // only lets go of idle connections
	return d, err
}

// named gives the digest that a registry names in answer to HEAD, "" when it names none.
func (r *repository) named(ctx context.Context) (d digest.Digest, err error) {
	q := request{method: http.MethodHead, kind: "manifests", object: r.name.Tag(), header: manifests(), resolves: true}
	err = r.ask(ctx, q, func(_ string, resp *http.Response) error {
		_ = resp.Body.Close()
		if told := digest.Digest(resp.Header.Get("Docker-Content-Digest")); imageref.CheckDigest(told) == nil {
			d = told
		}
		return nil
	})
	return d, err
}

// unnamed says whether a registry does not know HEAD.
func unnamed(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented)
}

// computed gives the digest of the manifest that a registry sends.
func (r *repository) computed(ctx context.Context) (d digest.Digest, err error) {
	q := request{kind: "manifests", object: r.name.Tag(), header: manifests(), resolves: true}
	err = r.ask(ctx, q, func(host string, resp *http.Response) error {
		body, err := readDocument(ctx, host, resp.Body)
		if err == nil {
			d = digest.FromBytes(body)
		}
		return err
	})
	return d, err
}
