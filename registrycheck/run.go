package registrycheck

import (
	"context"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
	"edgecache.dev/registrycheck/probe"
	"edgecache.dev/registrycheck/resolve"
)

// run is one call of CheckAll: what it has learned so far.
type run struct {
	options  Options
	resolver *resolve.Resolver

	mu     sync.Mutex // guards all below
	scopes map[string][]*scope
	pauses map[pauseKey]*pause
}

// pauseKey is who is asked to wait, and by whom: quotas are those of users.
type pauseKey struct {
	registry string
	user     authn.AuthConfig // of the credential that is tried first
}

// scope is a repository as one set of credentials sees it. What is known of it holds for
// every image in it.
type scope struct {
	keys     keychain.Keychain
	pause    *pause
	tops     once[string, resolve.Top]
	children once[v1.Hash, *resolve.Manifest]
	configs  once[v1.Hash, resolve.Config]
	blobs    once[blobKey, probe.Answer]
	signed   once[digest.Digest, []string]
}

// blobKey is a blob and how it is asked for.
type blobKey struct {
	digest v1.Hash
	size   int64
	diffID digest.Digest // of Request.Full, else ""
	full   bool
}

func newRun(c *Checker) *run {
	return &run{options: c.options, resolver: c.resolver, scopes: map[string][]*scope{}, pauses: map[pauseKey]*pause{}}
}

// scope finds the one of a repository and credentials, or makes it.
func (r *run) scope(ref imageref.Reference, keys keychain.Keychain) *scope {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.scopes[ref.Name()] {
		if r.resolver.SameUsers(ref, s.keys, keys) {
			return s
		}
	}
	s := &scope{keys: keys, pause: r.pause(ref, keys)}
	r.scopes[ref.Name()] = append(r.scopes[ref.Name()], s)
	return s
}

// pause finds the pause of a registry and user. Called with the lock held.
func (r *run) pause(ref imageref.Reference, keys keychain.Keychain) *pause {
	key := pauseKey{registry: ref.Registry()}
	if users := keys.For(ref); len(users) > 0 {
		auth, _ := users[0].Authorization() // never fails
		key.user = *auth
	}
	if r.pauses[key] == nil {
		r.pauses[key] = &pause{}
	}
	return r.pauses[key]
}

// image is the check of one image in a run.
type image struct {
	*run
	seen    *scope
	query   resolve.Query
	request Request
	budget  *budget
}

// top asks what the reference names.
func (i *image) top(ctx context.Context) (resolve.Top, error) {
	return i.seen.tops.do(i.query.Reference.String(), func() (resolve.Top, error) {
		return patiently(ctx, i, func() (resolve.Top, error) { return i.resolver.Top(ctx, i.query) })
	})
}

// child reads the manifest of an index entry.
func (i *image) child(ctx context.Context, d v1.Descriptor) (*resolve.Manifest, error) {
	return i.seen.children.do(d.Digest, func() (*resolve.Manifest, error) {
		return patiently(ctx, i, func() (*resolve.Manifest, error) { return i.resolver.Child(ctx, i.query, d) })
	})
}

func (i *image) config(ctx context.Context, d v1.Descriptor) (resolve.Config, error) {
	return i.seen.configs.do(d.Digest, func() (resolve.Config, error) {
		return patiently(ctx, i, func() (resolve.Config, error) { return i.resolver.Config(ctx, i.query, d) })
	})
}

// blob asks whether a layer is there; with a diffID it is read through.
func (i *image) blob(ctx context.Context, d v1.Descriptor, diffID digest.Digest) (probe.Answer, error) {
	full := i.request.Full
	return i.seen.blobs.do(blobKey{d.Digest, d.Size, diffID, full}, func() (probe.Answer, error) {
		return patiently(ctx, i, func() (probe.Answer, error) {
			q := i.query
			q.Patient, q.Object = full, access.Object{Kind: access.Blobs, ID: d.Digest.String()}
			return resolve.Ask(ctx, i.resolver, q, func(ctx context.Context, s *access.Session) (probe.Answer, error) {
				if full {
					return probe.Read(ctx, s, d, diffID)
				}
				return probe.Exists(ctx, s, d)
			})
		})
	})
}

// signatures asks what signs the image.
func (i *image) signatures(ctx context.Context, of digest.Digest) ([]string, error) {
	return i.seen.signed.do(of, func() ([]string, error) {
		return patiently(ctx, i, func() ([]string, error) {
			q := i.query
			q.Object = access.Object{Kind: access.Referrers, ID: of.String()}
			return resolve.Ask(ctx, i.resolver, q, func(ctx context.Context, s *access.Session) ([]string, error) {
				return probe.Referrers(ctx, s, of)
			})
		})
	})
}
