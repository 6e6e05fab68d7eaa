package fetch

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
)

// Serves asks whether a registry, or a mirror of it, serves a digest just now. Nothing is
// stored. The error says why not.
func (r *Registry) Serves(ctx context.Context, name imageref.Reference, d digest.Digest) error {
	repo, err := r.Repository(ctx, name)
	if err == nil {
		_, err = repo.Manifest(ctx, d)
		_ = repo.Close() // only lets go of idle connections
	}
	if err != nil {
		return fmt.Errorf("asking for %s: %w", name, err)
	}
	return nil
}
