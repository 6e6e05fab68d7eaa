package resolve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
)

// accepted are the manifests that containerd pulls.
func accepted() []string {
	return []string{
		string(types.OCIImageIndex), string(types.DockerManifestList),
		string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
	}
}

// identifier is the tag or digest as it stands in URLs.
func identifier(ref imageref.Reference) string {
	if d := ref.Digest(); d != "" {
		return d.String()
	}
	return ref.Tag()
}

// headDigest asks for the digest with HEAD, which no registry counts as a pull, and with
// GET where the answer to HEAD is of no use. That covers servers that know no HEAD, and
// those that claim by it that the image is not there.
func headDigest(ctx context.Context, s *access.Session, ref imageref.Reference) (digest.Digest, error) {
	resp, err := s.Request(ctx, http.MethodHead, access.Object{Kind: access.Manifests, ID: identifier(ref)}, accepted()...)
	if err == nil {
		_ = resp.Body.Close() // gives back its place among the requests, which GET may need
		d := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
		if imageref.CheckDigest(d) == nil && (ref.Digest() == "" || ref.Digest() == d) {
			return d, nil
		}
	} else if !headRefused(err) {
		return "", err
	}
	o, err := getManifest(ctx, s, identifier(ref), ref.Digest())
	return o.digest, err
}

// headRefused says whether GET may succeed where HEAD did not.
func headRefused(err error) bool {
	status, ok := errors.AsType[*access.StatusError](err)
	return ok && slices.Contains([]int{
		http.StatusBadRequest,
		http.StatusNotFound,
		http.StatusMethodNotAllowed,
		http.StatusNotAcceptable,
		http.StatusNotImplemented,
	}, status.StatusCode)
}

// getManifest fetches a manifest or index. want is its digest, "" when a tag is asked.
func getManifest(ctx context.Context, s *access.Session, id string, want digest.Digest) (object, error) {
	resp, err := s.Request(ctx, http.MethodGet, access.Object{Kind: access.Manifests, ID: id}, accepted()...)
	if err != nil {
		return object{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body) // bounded by access
	if err != nil {
		return object{}, fmt.Errorf("reading manifest: %w", err)
	}
	o := object{mediaType: mediaTypeOf(resp.Header.Get("Content-Type")), digest: digest.FromBytes(raw), raw: raw}
	if want != "" && o.digest != want {
		return object{}, &mismatchError{"manifest", o.digest.String(), want.String()}
	}
	return o, nil
}

// getChild fetches the manifest that an index entry names; its media type is what the
// index says, as it is for runtimes.
func getChild(ctx context.Context, s *access.Session, d v1.Descriptor) (document, error) {
	if err := checkDescriptor(d); err != nil {
		return document{}, err
	}
	o := object{digest: digestOf(d), raw: d.Data}
	if d.Data == nil {
		var err error
		if o, err = getManifest(ctx, s, d.Digest.String(), digestOf(d)); err != nil {
			return document{}, err
		}
	}
	if err := check("manifest", o.raw, d); err != nil {
		return document{}, err
	}
	o.mediaType = d.MediaType
	return parse(o)
}

// getConfig fetches an image's configuration, unless the manifest carries it.
func getConfig(ctx context.Context, s *access.Session, d v1.Descriptor) ([]byte, error) {
	raw := d.Data
	if raw == nil {
		resp, err := s.Request(ctx, http.MethodGet, access.Object{Kind: access.Blobs, ID: d.Digest.String()})
		if err != nil {
			return nil, err
		}
		defer func() { _ = resp.Body.Close() }()
		if raw, err = io.ReadAll(resp.Body); err != nil { // bounded by access
			return nil, fmt.Errorf("reading image configuration: %w", err)
		}
	}
	return raw, check("image configuration", raw, d)
}

// check compares bytes with the descriptor that announced them.
func check(what string, raw []byte, d v1.Descriptor) error {
	if int64(len(raw)) != d.Size {
		return &mismatchError{what, fmt.Sprintf("%d bytes", len(raw)), fmt.Sprintf("%d bytes", d.Size)}
	}
	if got := digest.FromBytes(raw); got != digestOf(d) {
		return &mismatchError{what, got.String(), d.Digest.String()}
	}
	return nil
}
