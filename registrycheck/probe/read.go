package probe

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/resolve"
)

// Stall is how long Read waits for the next byte.
const Stall = 30 * time.Second

// maxWindow is the largest window of zstd that is unpacked, in bytes: what its authors
// recommend that every decoder supports, eight times over.
const maxWindow = 64 << 20

// Read downloads a blob and compares it with its digest and size. With a diffID it is
// unpacked on the way and its content compared too, as a runtime does; "" leaves that.
func Read(ctx context.Context, s *access.Session, d v1.Descriptor, diffID digest.Digest) (Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := s.Stream(ctx, blob(d), d.Size)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	watchdog := time.AfterFunc(Stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	body := &counted{r: resp.Body, on: func() { watchdog.Reset(Stall) }}
	hash := sha256.New()
	unpacked, err := unpack(io.TeeReader(body, hash), diffID)
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return Answer{}, cause
	}
	if _, ok := errors.AsType[*access.TooLargeError](body.err); ok {
		return Answer{}, sizeMismatch(d, body.n+1)
	}
	if body.err != nil && !errors.Is(body.err, io.EOF) {
		return Answer{}, fmt.Errorf("reading blob: %w", body.err)
	}
	if body.n != d.Size {
		return Answer{}, sizeMismatch(d, body.n)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != d.Digest.Hex {
		return Answer{}, resolve.Mismatch("blob "+d.Digest.String(), "sha256:"+got, d.Digest.String())
	}
	return Answer{RedirectHosts: s.RedirectHosts(resp), Unpacked: unpacked}, err
}

// errStalled ends a download in which nothing arrives.
var errStalled = fmt.Errorf("nothing arrived for %s: %w", Stall, context.DeadlineExceeded)

// counted notes what is read, and how it ended.
type counted struct {
	r   io.Reader
	on  func() // called when something arrives
	n   int64
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.on()
	}
	c.n += int64(n)
	if err != nil {
		c.err = err
	}
	return n, err
}

// unpack reads all of a layer and gives the size of its content. Errors are about the
// content alone.
func unpack(r io.Reader, diffID digest.Digest) (int64, error) {
	defer func() { _, _ = io.Copy(io.Discard, r) }() // what is behind the end counts for the digest
	if diffID == "" {
		return 0, nil
	}
	content, closer, err := decompress(r)
	if err != nil {
		return 0, resolve.Invalid("layer cannot be unpacked: " + access.Scrub(err.Error()))
	}
	defer closer()
	verifier := diffID.Verifier()
	n, err := io.Copy(verifier, content)
	if err != nil {
		return n, resolve.Invalid("layer cannot be unpacked: " + access.Scrub(err.Error()))
	}
	if !verifier.Verified() {
		return n, resolve.Mismatch("content of a layer", "another digest", diffID.String())
	}
	return n, nil
}

// decompress looks at the first bytes, as runtimes do: media types are often wrong.
func decompress(r io.Reader) (content io.Reader, closer func(), err error) {
	buffered := bufio.NewReader(r)
	magic, _ := buffered.Peek(4) // a shorter layer is not compressed
	switch {
	case len(magic) >= 3 && magic[0] == 0x1f && magic[1] == 0x8b && magic[2] == 8:
		content, err = gzip.NewReader(buffered)
		return content, func() {}, err
	case len(magic) == 4 && string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return buffered, func() {}, nil
}
