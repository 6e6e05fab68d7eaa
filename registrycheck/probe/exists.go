package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/resolve"
)

// Answer is what was learned about a blob that is there.
type Answer struct {
	// RedirectHosts are the hosts besides the registry that served it.
	RedirectHosts []string
	// Unpacked is the size of a layer's content in bytes, known to Read only.
	Unpacked int64
}

// Exists asks whether a blob is there, in the size that its manifest says.
func Exists(ctx context.Context, s *access.Session, d v1.Descriptor) (Answer, error) {
	resp, err := s.Request(ctx, http.MethodHead, blob(d))
	switch {
	case err == nil:
		_ = resp.Body.Close()
		// Some servers send a length of 0 with HEAD, whatever the size.
		if resp.ContentLength == d.Size || resp.ContentLength <= 0 {
			return Answer{RedirectHosts: s.RedirectHosts(resp)}, nil
		}
	case !headMayLie(err):
		return Answer{}, err
	}
	return peek(ctx, s, d)
}

// headMayLie says whether GET may succeed where HEAD did not.
func headMayLie(err error) bool {
	status, ok := errors.AsType[*access.StatusError](err)
	return ok && status.StatusCode != http.StatusUnauthorized
}

// peek asks for the first byte.
func peek(ctx context.Context, s *access.Session, d v1.Descriptor) (Answer, error) {
	if d.Size == 0 {
		return Read(ctx, s, d, "") // it has no first byte
	}
	resp, err := s.Peek(ctx, blob(d))
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if size := total(resp); size >= 0 && size != d.Size {
		return Answer{}, sizeMismatch(d, size)
	}
	if resp.StatusCode == http.StatusPartialContent {
		_, _ = io.CopyN(io.Discard, resp.Body, 2) // to its end, so that the connection is used again
	}
	return Answer{RedirectHosts: s.RedirectHosts(resp)}, nil
}

// total gives the size of the whole object, -1 when the answer does not say.
func total(resp *http.Response) int64 {
	if resp.StatusCode != http.StatusPartialContent {
		return resp.ContentLength
	}
	_, size, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
	if n, err := strconv.ParseInt(size, 10, 64); err == nil {
		return n
	}
	return -1
}

func blob(d v1.Descriptor) access.Object {
	return access.Object{Kind: access.Blobs, ID: d.Digest.String()}
}

func sizeMismatch(d v1.Descriptor, size int64) error {
	return resolve.Mismatch("blob "+d.Digest.String(), fmt.Sprintf("%d bytes", size), fmt.Sprintf("%d bytes", d.Size))
}
