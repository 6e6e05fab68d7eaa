package fetch

import (
	"context"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/internal/pause"
)

// Pauses while another writer holds an ingest.
const (
	firstLook = 10 * time.Millisecond
	lastLook  = 500 * time.Millisecond
)

// ingest is a blob on its way into the store, open for writing.
type ingest struct {
	w       content.Writer
	cancel  context.CancelFunc // ends the writer: over gRPC it is a stream with a context
	desc    ocispec.Descriptor
	begun   int64 // bytes that were there when the writer was opened
	offset  int64 // bytes that are there now
	opened  time.Time
	rejects map[string]func() bool // by host that sent bytes since
}

// close lets go of the ingest; what it holds stays in the store.
func (in *ingest) close() {
	_ = in.w.Close() // what matters was said by Write and Commit
	in.cancel()
}

// open opens the ingest of a blob. It gives nil when the store has the blob, and waits
// while another writer holds the ingest: another pull of this agent, or one of the runtime.
func (j *job) open(ctx context.Context, d ocispec.Descriptor) (*ingest, error) {
	doing := "opening the ingest of " + d.Digest.String()
	for next := firstLook; ; next = min(2*next, lastLook) {
		in, err := j.tryOpen(ctx, d)
		switch {
		case err == nil:
			return in, nil
		case errdefs.IsAlreadyExists(err):
			return nil, j.checkSize(ctx, d)
		case !errdefs.IsUnavailable(err):
			return nil, storeError(ctx, doing, err)
		}
		// Unavailable is said of an ingest in use, and of a runtime that is gone.
		if _, err := j.stored(ctx, d); err != nil {
			return nil, err
		}
		if !pause.For(ctx, next) {
			return nil, storeError(ctx, doing, context.Cause(ctx))
		}
	}
}

// checkSize compares the size of a stored blob with that in the manifest. Where they differ
// one of the two is wrong: the blob is read to find out which, and deleted if it is that.
func (j *job) checkSize(ctx context.Context, d ocispec.Descriptor) error {
	info, err := j.store.Info(ctx, d.Digest)
	if errdefs.IsNotFound(err) || err == nil && info.Size == d.Size {
		return nil // removed meanwhile: whoever names the image looks again
	}
	if err != nil {
		return storeError(ctx, "looking for "+d.Digest.String(), err)
	}
	intact, err := Intact(ctx, j.store, d.Digest)
	switch {
	case err != nil:
		return err
	case intact:
		return refuse("manifest gives %d bytes for %s, which has %d", d.Size, d.Digest, info.Size)
	}
	return j.discard(ctx, d.Digest)
}

// Intact reads a stored blob and says whether it is what its digest says. A blob that is
// not there is not damaged.
func Intact(ctx context.Context, store content.Provider, d digest.Digest) (bool, error) {
	ra, err := store.ReaderAt(ctx, ocispec.Descriptor{Digest: d})
	if errdefs.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, storeError(ctx, "reading "+d.String(), err)
	}
	defer func() { _ = ra.Close() }()
	verifier := d.Verifier()
	if _, err := io.Copy(verifier, content.NewReader(ra)); err != nil {
		return false, storeError(ctx, "reading "+d.String(), err)
	}
	return verifier.Verified(), nil
}

func (j *job) tryOpen(ctx context.Context, d ocispec.Descriptor) (*ingest, error) {
	in := &ingest{desc: d, opened: time.Now(), rejects: map[string]func() bool{}}
	ctx, in.cancel = context.WithCancel(ctx)
	var err error
	if in.w, err = j.store.Writer(ctx, content.WithRef(ref(ctx, d)), content.WithDescriptor(d)); err != nil {
		in.cancel()
		return nil, err
	}
	status, err := in.w.Status()
	if err == nil && status.Offset > d.Size {
		// Longer than the blob can be: nothing that belongs to it.
		err = in.w.Truncate(0)
		status.Offset = 0
	}
	if err != nil {
		in.close()
		return nil, err
	}
	in.begun, in.offset = status.Offset, status.Offset
	return in, nil
}

// ref is the name of the ingest of a blob: the one that containerd itself uses.
func ref(ctx context.Context, d ocispec.Descriptor) string { return remotes.MakeRefKey(ctx, d) }

// stored says how many bytes of a blob the store holds, in an ingest or as a whole, and
// notes it as progress.
func (j *job) stored(ctx context.Context, d ocispec.Descriptor) (int64, error) {
	info, err := j.store.Info(ctx, d.Digest)
	if err == nil {
		return info.Size, nil
	}
	if !errdefs.IsNotFound(err) {
		return 0, storeError(ctx, "looking for "+d.Digest.String(), err)
	}
	status, err := j.store.Status(ctx, ref(ctx, d))
	if errdefs.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, storeError(ctx, "looking for the ingest of "+d.Digest.String(), err)
	}
	n := min(status.Offset, d.Size)
	j.progress.at(d.Digest, n)
	return n, nil
}

// abort throws away what an ingest holds, also when the call was cancelled meanwhile.
func (j *job) abort(ctx context.Context, in *ingest) error {
	in.close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if err := j.store.Abort(ctx, ref(ctx, in.desc)); err != nil && !errdefs.IsNotFound(err) {
		return storeError(ctx, "aborting the ingest of "+in.desc.Digest.String(), err)
	}
	return nil
}
