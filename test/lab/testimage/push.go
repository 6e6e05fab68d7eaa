package testimage

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A Registry takes images.
type Registry interface {
	// Addr is how references to its images begin.
	Addr() string
	// Direct is the way that pushes take.
	Direct() http.RoundTripper
}

// An Object is an image or an index.
type Object interface {
	remote.Taggable
	Digest() (v1.Hash, error)
}

// Pushed tells where an object is after a push.
type Pushed struct {
	// Name is the reference it was pushed as: "127.0.0.1:5000/app:v1".
	Name string
	// Repository is the reference without tag: "127.0.0.1:5000/app".
	Repository string
	// Digest is what the tag leads to.
	Digest string
}

// ByDigest returns the reference that names the object by its digest.
func (p Pushed) ByDigest() string { return p.Repository + "@" + p.Digest }

// Push pushes an image or index under a name within the registry: "app:v1", "team/app:v1".
func Push(ctx context.Context, r Registry, reference string, object Object) (Pushed, error) {
	ref, err := name.ParseReference(r.Addr()+"/"+reference, name.Insecure)
	if err != nil {
		return Pushed{}, fmt.Errorf("pushing %s: %w", reference, err)
	}
	digest, err := object.Digest()
	if err != nil {
		return Pushed{}, fmt.Errorf("pushing %s: %w", reference, err)
	}
	if err := remote.Push(ref, object, remote.WithContext(ctx), remote.WithTransport(r.Direct())); err != nil {
		return Pushed{}, fmt.Errorf("pushing %s: %w", reference, err)
	}
	return Pushed{Name: r.Addr() + "/" + reference, Repository: ref.Context().Name(), Digest: digest.String()}, nil
}
