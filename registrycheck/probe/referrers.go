package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/registrycheck/access"
)

// CosignSignature stands for the tag under which cosign kept signatures before
// registries knew referrers.
const CosignSignature = "cosign-signature"

// maxTypes bounds what a registry can make a caller keep.
const maxTypes = 64

// Referrers gives the artifact types of what refers to a digest, sorted, each once:
// signatures, bills of materials and the like. It costs one GET, one more where the
// registry does not know referrers, and one HEAD for cosign's older tags.
func Referrers(ctx context.Context, s *access.Session, of digest.Digest) ([]string, error) {
	list, err := artifactTypes(ctx, s, access.Object{Kind: access.Referrers, ID: of.String()})
	if unknown(err) {
		list, err = artifactTypes(ctx, s, access.Object{Kind: access.Manifests, ID: tagOf(of)})
	}
	if unknown(err) {
		err = nil // nothing refers to it
	}
	if err != nil {
		return nil, err
	}
	resp, err := s.Request(ctx, http.MethodHead, access.Object{Kind: access.Manifests, ID: tagOf(of) + ".sig"},
		string(types.OCIManifestSchema1), string(types.DockerManifestSchema2))
	switch {
	case err == nil:
		_ = resp.Body.Close()
		list = append(list, CosignSignature)
	case !unknown(err):
		return nil, err
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// tagOf is the tag for what refers to a digest in registries that do not know referrers.
func tagOf(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

// unknown says whether a registry answered that there is no such thing.
func unknown(err error) bool {
	status, ok := errors.AsType[*access.StatusError](err)
	return ok && slices.Contains([]int{http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable}, status.StatusCode)
}

// artifactTypes reads the index of what refers to an image.
func artifactTypes(ctx context.Context, s *access.Session, what access.Object) ([]string, error) {
	resp, err := s.Request(ctx, http.MethodGet, what, string(types.OCIImageIndex))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body) // bounded by access
	if err != nil {
		return nil, fmt.Errorf("reading referrers: %w", err)
	}
	var index struct {
		Manifests []struct {
			ArtifactType string `json:"artifactType"`
		} `json:"manifests"`
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), string(types.OCIImageIndex)) || json.Unmarshal(raw, &index) != nil {
		return nil, nil // some registries answer what they do not know with a page
	}
	var list []string
	for _, m := range index.Manifests {
		if m.ArtifactType != "" && len(list) < maxTypes {
			list = append(list, access.Scrub(m.ArtifactType))
		}
	}
	return list, nil
}
