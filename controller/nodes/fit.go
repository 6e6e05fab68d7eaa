package nodes

import (
	"encoding/json"

	"edgecache.dev/api/v1alpha1"
)

// maxSpecBytes is the spec's share of the 1 MiB that a NodeImageCache may have: 1,000
// images with names of 255 characters take 400 KB without their owners.
const maxSpecBytes = 440 << 10

// fit drops owners, the only part that nothing depends on, until the spec is within its
// share: all but the first of each image, then all.
func fit(spec v1alpha1.NodeImageCacheSpec) v1alpha1.NodeImageCacheSpec {
	for _, keep := range []int{1, 0} {
		if size(spec) <= maxSpecBytes {
			return spec
		}
		for i := range spec.Images {
			spec.Images[i].Owners = spec.Images[i].Owners[:min(keep, len(spec.Images[i].Owners))]
		}
	}
	return spec
}

// size is the length of the spec as JSON, estimated without encoding where it is small.
func size(spec v1alpha1.NodeImageCacheSpec) int {
	const perImage = 800 // two names of 255, a digest, eight short owners
	if (len(spec.Images)+len(spec.Remove))*perImage <= maxSpecBytes && len(spec.Credentials) == 0 {
		return 0
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return 0 // cannot happen: the type has no cycles, channels or NaNs
	}
	return len(b)
}
