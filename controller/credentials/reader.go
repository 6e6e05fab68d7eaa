package credentials

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"

	"edgecache.dev/api/wish"
)

// readEvery is how long a Secret counts as read, from half of it to all of it.
const readEvery = 10 * time.Minute

// Secrets reads Secrets one by one.
type Secrets interface {
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Reader keeps a vault up to date. All fields are required.
type Reader struct {
	Vault   *Vault
	Secrets Secrets
	// Changed is told of the ImageCaches whose Secrets changed.
	Changed func(wish.Owner)
}

// Sync reads one Secret and says when to read it again.
func (r *Reader) Sync(ctx context.Context, name cache.ObjectName) (time.Duration, error) {
	if !r.Vault.Wanted(name) {
		return 0, nil
	}
	s, err := r.Secrets.Secret(ctx, name.Namespace, name.Name)
	switch {
	case apierrors.IsNotFound(err):
		s = nil
	case err != nil:
		return 0, fmt.Errorf("reading pull secret %s: %w", name, err)
	}
	for _, owner := range r.Vault.Put(name, s) {
		r.Changed(owner)
	}
	return readEvery/2 + rand.N(readEvery/2), nil
}
