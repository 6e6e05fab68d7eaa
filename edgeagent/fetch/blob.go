package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxRestarts bounds how often one call throws away the bytes of a blob and begins anew.
const maxRestarts = 3

// Reasons to leave an ingest that are no failures.
var (
	// errReopen: the writer has been open for long enough.
	errReopen = errors.New("reopening the writer")
	// errRestart: the bytes were wrong and are gone; beginning anew may give other ones.
	errRestart = errors.New("beginning anew")
)

// blob brings in one blob, if it is not there: from where its ingest ended, on as many
// connections as it takes.
func (j *job) blob(ctx context.Context, d ocispec.Descriptor) error {
	b := &backoff{limit: j.options.Attempts}
	for restarts := 0; ; {
		in, err := j.open(ctx, d)
		if err != nil {
			return err
		}
		if in == nil {
			j.progress.at(d.Digest, d.Size)
			return nil
		}
		err = j.fill(ctx, in, b)
		in.close()
		switch {
		case err == nil:
			j.progress.at(d.Digest, d.Size)
			return nil
		case errors.Is(err, errRestart) && restarts < maxRestarts:
			restarts++
		case !errors.Is(err, errReopen):
			return err
		}
	}
}

// fill reads what is missing of an ingest and commits it. The writer stays open over lost
// connections: reopening makes the store read and hash again all that it has.
func (j *job) fill(ctx context.Context, in *ingest, b *backoff) error {
	for in.offset < in.desc.Size {
		before := in.offset
		err := j.connection(ctx, in)
		switch {
		case err == nil:
			continue
		case errors.Is(err, errRange) && before > 0:
			return j.restart(ctx, in, err)
		case !retryNow(err):
			return err
		}
		if err := b.wait(ctx, in.offset > before, err); err != nil {
			return err
		}
		if err := j.alive(ctx, in); err != nil {
			return err
		}
	}
	return j.commit(ctx, in)
}

// alive says whether the store still takes bytes. Asked before each new connection: what
// is sent to a node whose runtime has gone meanwhile would be sent for nothing.
func (j *job) alive(ctx context.Context, in *ingest) error {
	if _, err := in.w.Status(); err != nil {
		return storeError(ctx, "writing blob "+in.desc.Digest.String(), err)
	}
	return nil
}

// restart throws away what the ingest holds.
func (j *job) restart(ctx context.Context, in *ingest, why error) error {
	if err := j.abort(ctx, in); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", errRestart, why)
}

// commit makes the blob visible if its digest is right. If not, its bytes are thrown away.
// They may have been damaged here, or come from a mirror that is broken; only when all
// were sent by the registry itself, in this call, is it certain that it serves others.
func (j *job) commit(ctx context.Context, in *ingest) error {
	err := in.w.Commit(ctx, in.desc.Size, in.desc.Digest)
	switch {
	case err == nil, errdefs.IsAlreadyExists(err):
		return nil
	case !errdefs.IsFailedPrecondition(err):
		return storeError(ctx, "committing blob "+in.desc.Digest.String(), err)
	}
	wrong := mismatch(in.senders(), computed(err, in.desc.Digest), in.desc.Digest)
	if aerr := j.abort(ctx, in); aerr != nil {
		return errors.Join(wrong, aerr)
	}
	if in.begun > 0 || in.reject() {
		return fmt.Errorf("%w: %w", errRestart, wrong)
	}
	return fmt.Errorf("fetching blob %s: %w", in.desc.Digest, wrong)
}

// digests finds the digests in a text.
var digests = regexp.MustCompile(`sha\d+:[a-f0-9]{64,128}`)

// computed finds the digest that the store computed in its error text, which over gRPC is
// all there is. "unknown" when the text does not name one.
func computed(err error, want digest.Digest) digest.Digest {
	for _, d := range digests.FindAllString(err.Error(), -1) {
		if d != want.String() {
			return digest.Digest(d)
		}
	}
	return "unknown"
}

// connection asks for the missing part of a blob and writes what comes.
func (j *job) connection(ctx context.Context, in *ingest) error {
	watched, watch := newWatch(ctx, j.options.Stall)
	defer watch.end()
	stream, err := j.repo.Blob(watched, in.desc, in.offset)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Body.Close() }()
	in.rejects[stream.Host] = stream.Reject
	before := in.offset
	if err := j.copy(ctx, in, stream, watch); err != nil {
		if in.offset == before && stream.Barren != nil && retryNow(err) {
			stream.Barren()
		}
		return fmt.Errorf("fetching blob %s: %w", in.desc.Digest, err)
	}
	return nil
}

// copy writes a stream to an ingest until the blob is complete.
func (j *job) copy(ctx context.Context, in *ingest, s *Stream, watch *watch) error {
	buf := make([]byte, j.options.piece())
	for skip := s.Skip; in.offset < in.desc.Size; {
		if time.Since(in.opened) >= j.options.Reopen {
			return errReopen
		}
		n, err := watch.read(s.Body, buf[:min(int64(len(buf)), skip+in.desc.Size-in.offset)])
		dropped := min(int64(n), skip)
		skip -= dropped
		if werr := j.append(ctx, in, buf[dropped:n]); werr != nil {
			return werr
		}
		if err := j.limit(ctx, n); err != nil {
			return err
		}
		if err != nil && in.offset < in.desc.Size {
			return j.broken(ctx, in, s, err, watch)
		}
	}
	return nil
}

// append writes to the store and counts.
func (j *job) append(ctx context.Context, in *ingest, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	n, err := in.w.Write(p)
	in.offset += int64(n)
	if err != nil {
		return storeError(ctx, "writing", err)
	}
	j.progress.at(in.desc.Digest, in.offset)
	return nil
}

// broken says why a stream ended before the blob did.
func (j *job) broken(ctx context.Context, in *ingest, s *Stream, err error, w *watch) error {
	if w.stalled() {
		return &Error{Reason: NetworkError, Host: s.Host, Err: fmt.Errorf("%w for %s", errStalled, w.limit)}
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	err = connectionError(ctx, s.Host, err)
	if e, ok := errors.AsType[*Error](err); ok {
		e.Err = fmt.Errorf("connection lost after %d of %d bytes: %w", in.offset, in.desc.Size, e.Err)
	}
	return err
}

// watch cuts a connection that is silent for too long.
type watch struct {
	cancel context.CancelCauseFunc
	cause  func() error // why the connection's context ended
	limit  time.Duration
	timer  *time.Timer // runs while a read waits
}

// newWatch gives the context for a connection and what watches it.
func newWatch(ctx context.Context, limit time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{limit: limit, cancel: cancel, cause: func() error { return context.Cause(ctx) }}
	w.timer = time.AfterFunc(limit, func() { cancel(errStalled) })
	w.timer.Stop()
	return ctx, w
}

func (w *watch) read(r io.Reader, p []byte) (int, error) {
	w.timer.Reset(w.limit)
	defer w.timer.Stop()
	return r.Read(p)
}

func (w *watch) stalled() bool { return errors.Is(w.cause(), errStalled) }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// senders names the hosts that sent bytes of an ingest in this call.
func (in *ingest) senders() string {
	return strings.Join(slices.Sorted(maps.Keys(in.rejects)), ", ")
}

// reject tells the hosts that sent bytes that they were wrong. It says whether there are
// others to ask.
func (in *ingest) reject() bool {
	others := false
	for _, host := range slices.Sorted(maps.Keys(in.rejects)) {
		others = in.rejects[host]() || others
	}
	return others
}
