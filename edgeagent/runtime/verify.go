package runtime

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/fetch"
)

// Verifier is a driver that can tell whether an image is on disk as it should be, and give
// up what is not. It is what an unclean boot asks for: whatever counts as held may be damaged
// then. Drivers that cannot see the disk of their runtime are none.
type Verifier interface {
	// Verify reads through all that is kept of a digest, at the speed that the limiter
	// allows. The damage is zero where none was found. The error says why the image could
	// not be read: nothing is known then. It is ErrAway while the runtime does not answer.
	Verify(ctx context.Context, d digest.Digest, limit fetch.Limiter) (Damage, error)
	// Discard deletes what is damaged, so that the next Ensure brings it anew, and makes
	// every image incomplete that depends on it. Names stay. What containers use cannot be
	// deleted: then nothing is, and the error has the reason ImageDamaged.
	Discard(ctx context.Context, damage Damage) error
}

// ErrAway says that the runtime did not answer, which says nothing of the image.
var ErrAway = errors.New("the container runtime does not answer")

// Damage is what of an image is not as it should be.
type Damage struct {
	// Digest of the image.
	Digest digest.Digest
	// Blobs are those whose bytes are not what their digest says.
	Blobs []digest.Digest
	// Snapshot is the lowest unpacked layer that is not what its blob says, "" for none. All
	// that is unpacked on it goes with it.
	Snapshot string
	// What was found, for people.
	What string
}

// Found says whether there is any damage.
func (d Damage) Found() bool { return len(d.Blobs) > 0 || d.Snapshot != "" }

// Paced gives a reader that reads no faster than the limiter allows.
func Paced(ctx context.Context, r io.Reader, limit fetch.Limiter) io.Reader {
	return paced{ctx, r, limit}
}

type paced struct {
	ctx   context.Context //nolint:containedctx // lives as long as one reading
	r     io.Reader
	limit fetch.Limiter
}

// Read waits for what it reads.
func (p paced) Read(b []byte) (int, error) {
	b = b[:min(len(b), fetch.ChunkSize)]
	if err := p.limit.WaitN(p.ctx, len(b)); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}
