package fetch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// attestation marks index entries that describe another entry instead of being an image.
const attestation = "vnd.docker.reference.type"

// candidates gives the entries of an index that may be the image of a platform, the best
// first. An entry that does not name its platform comes last: its config will tell.
// Entries that are no image (attestations, artifacts, nested indexes) are left out.
func candidates(idx *ocispec.Index, node platforms.MatchComparer) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, d := range idx.Manifests {
		if isImage(d) && (d.Platform == nil || node.Match(*d.Platform)) {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b ocispec.Descriptor) int {
		return comparePlatforms(a.Platform, b.Platform, node)
	})
	return out
}

func isImage(d ocispec.Descriptor) bool {
	// Some tools write the config's media type as the artifact type of plain images.
	artifact := d.Platform == nil && d.ArtifactType != "" && !images.IsConfigType(d.ArtifactType)
	return images.IsManifestType(d.MediaType) && !artifact && d.Annotations[attestation] == "" &&
		checkDescriptor(d, MaxDocument) == nil
}

func comparePlatforms(a, b *ocispec.Platform, node platforms.MatchComparer) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	case node.Less(*a, *b):
		return -1
	case node.Less(*b, *a):
		return 1
	}
	return 0
}

// offered lists the platforms of an index for an error text, at most ten.
func offered(idx *ocispec.Index) string {
	var names []string
	for _, d := range idx.Manifests {
		if d.Platform != nil && isImage(d) {
			names = append(names, platforms.Format(*d.Platform))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 0:
		return "no image at all"
	case len(names) > 10:
		return "only " + strings.Join(names[:10], ", ") + " and others"
	}
	return "only " + strings.Join(names, ", ")
}

// runsOn says whether the image of a config runs on the node, and which platform the
// config names. Configs without architecture are taken at their manifest's word.
func runsOn(config []byte, node platforms.MatchComparer) (bool, string, error) {
	var p ocispec.Platform
	if err := json.Unmarshal(config, &p); err != nil {
		return false, "", fmt.Errorf("parsing config: %w", err)
	}
	if p.OS == "" || p.Architecture == "" {
		return true, "", nil
	}
	p = platforms.Normalize(p)
	return node.Match(p), platforms.Format(p), nil
}
