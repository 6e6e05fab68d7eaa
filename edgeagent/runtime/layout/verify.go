package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

var _ runtime.Verifier = (*Driver)(nil)

// Verify compares every blob of an image with its digest.
func (d *Driver) Verify(ctx context.Context, dg digest.Digest, limit fetch.Limiter) (runtime.Damage, error) {
	damage := runtime.Damage{Digest: dg}
	d.mu.Lock()
	img, err := d.describe(ctx, dg)
	d.mu.Unlock()
	if err != nil {
		return damage, runtime.Failed("verifying "+dg.String(), err)
	}
	for _, blob := range append(img.Blobs(), img.Target, img.Manifest) {
		intact, err := d.intact(ctx, blob.Digest, limit)
		if err != nil {
			return damage, runtime.Failed("verifying "+dg.String(), err)
		}
		if !intact {
			damage.Blobs = append(damage.Blobs, blob.Digest)
			damage.What = fmt.Sprintf("stored blob %s is damaged", blob.Digest)
		}
	}
	return damage, nil
}

// intact says whether a blob is what its digest says, one that the disk cannot read is not.
// One that is not there shows otherwise.
func (d *Driver) intact(ctx context.Context, dg digest.Digest, limit fetch.Limiter) (bool, error) {
	ra, err := d.store.ReaderAt(ctx, ocispec.Descriptor{Digest: dg})
	if errdefs.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = ra.Close() }()
	verifier := dg.Verifier()
	_, err = io.Copy(verifier, runtime.Paced(ctx, content.NewReader(ra), limit))
	switch {
	case errors.Is(err, syscall.EIO): // the disk has lost it
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading %s: %w", dg, err)
	}
	return verifier.Verified(), nil
}

// Discard deletes damaged blobs.
func (d *Driver) Discard(ctx context.Context, damage runtime.Damage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, blob := range damage.Blobs {
		if err := d.store.Delete(ctx, blob); err != nil && !errdefs.IsNotFound(err) {
			return runtime.Failed("discarding what is damaged of "+damage.Digest.String(), err)
		}
	}
	return nil
}
