package lease

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Store is a content store of containerd in which everything that is written, or found to
// be there when it should be written, is held by a lease.
type Store struct {
	content.Store
	Lease *Lease
}

// Writer opens an ingest under the lease. The use ends with Close or Commit.
func (s Store) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w, err := s.open(ctx, opts)
	if !errdefs.IsNotFound(err) {
		return w, err
	}
	// The lease is what was not found: it was collected.
	if err := s.Lease.Renew(ctx); err != nil {
		return nil, err
	}
	return s.open(ctx, opts)
}

func (s Store) open(ctx context.Context, opts []content.WriterOpt) (content.Writer, error) {
	leased, done, err := s.Lease.Use(ctx)
	if err != nil {
		return nil, err
	}
	w, err := s.Store.Writer(leased, opts...)
	if err != nil {
		done()
		return nil, err
	}
	id, _ := leases.FromContext(leased)
	return writer{Writer: w, lease: id, done: done}, nil
}

type writer struct {
	content.Writer
	lease string
	done  func()
}

// Close ends the use of the lease; the ingest stays.
func (w writer) Close() error {
	defer w.done()
	return w.Writer.Close()
}

// Commit adds the blob to the lease and ends the use.
func (w writer) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	defer w.done()
	// Over gRPC the lease is that of the stream; in one process it is that of the call.
	ctx = leases.WithLease(ctx, w.lease)
	return w.Writer.Commit(ctx, size, expected, opts...)
}
