package layout

import (
	"context"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/time/rate"

	"edgecache.dev/edgeagent/fetch"
)

// failing is a content store on a disk that cannot read what it has.
type failing struct {
	content.Store
	errno syscall.Errno
}

func (f failing) ReaderAt(context.Context, ocispec.Descriptor) (content.ReaderAt, error) {
	return unreadable{f.errno}, nil
}

type unreadable struct{ errno syscall.Errno }

func (u unreadable) ReadAt([]byte, int64) (int, error) { return 0, u.errno }
func (u unreadable) Size() int64                       { return 1 }
func (u unreadable) Close() error                      { return nil }

// TestABlobThatTheDiskCannotRead is damaged: to read it again brings nothing. What fails for
// another reason says nothing of the blob.
func TestABlobThatTheDiskCannotRead(t *testing.T) {
	t.Parallel()
	for errno, known := range map[syscall.Errno]bool{syscall.EIO: true, syscall.ENOMEM: false} {
		d := &Driver{store: failing{errno: errno}}
		intact, err := d.intact(t.Context(), digest.FromString("x"), rate.NewLimiter(rate.Inf, fetch.ChunkSize))
		if intact || (err == nil) != known {
			t.Errorf("%v: intact %t, error %v, want it to be damaged: %t", errno, intact, err, known)
		}
	}
}
