package fetch

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
)

// Source is where bytes come from: a registry now; peers and bundles fit as well.
type Source interface {
	// Repository prepares reading from the repository of name. It reads the node's
	// configuration and connects to nothing. The caller closes it.
	Repository(ctx context.Context, name imageref.Reference) (Repository, error)
}

// Repository serves the content of one repository. Methods may be called concurrently.
// Their errors are *Error, or the context's.
type Repository interface {
	// Manifest reads the manifest or index d whole, at most MaxDocument bytes. The bytes
	// have been checked against d.
	Manifest(ctx context.Context, d digest.Digest) ([]byte, error)
	// Blob begins to read desc at offset, which is less than desc.Size. Nothing has been
	// checked: the bytes are an assertion of the source.
	Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (*Stream, error)
	// Close lets go of idle connections.
	Close() error
}

// Stream is the bytes of one blob on their way.
type Stream struct {
	// Body ends early when the connection does.
	Body io.ReadCloser
	// Skip is how many bytes to drop first: 0, or the offset that was asked for when the
	// source cannot begin there.
	Skip int64
	// Host is who sends the bytes.
	Host string
	// Reject tells the source that bytes of this stream were wrong. It says whether the
	// source has another host to ask; if so this host is not asked again.
	Reject func() bool
	// Barren tells the source that no byte came of this stream. Unless it is the last one
	// to ask this host is not asked again.
	Barren func()
}
