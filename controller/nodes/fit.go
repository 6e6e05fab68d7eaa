package nodes

import (
	"encoding/json"
	"slices"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

// maxSpecBytes is the spec's share of the 1 MiB that a NodeImageCache may have: 1,000
// images with names of 255 characters take 400 KB without their owners, tags that nodes
// resolve up to 90 KB more: then nobody is named, and the object is a little above 1 MiB.
const maxSpecBytes = 440 << 10

// fit drops owners until the spec is within its share: all but one of each image, then all.
// An image without owners stays as long as it is wished; a suspended cache no longer holds
// it, and nobody can give it up.
func fit(spec v1alpha1.NodeImageCacheSpec, wished []wish.Image) v1alpha1.NodeImageCacheSpec {
	if size(spec) <= maxSpecBytes {
		return spec
	}
	holders := map[string][]wish.Owner{}
	for i := range wished {
		holders[wished[i].Ref.String()] = wished[i].Holders
	}
	for i := range spec.Images {
		img := &spec.Images[i]
		held := slices.IndexFunc(img.Owners, func(o string) bool { return slices.Contains(holders[img.Name], wish.Owner(o)) })
		if at := max(held, 0); len(img.Owners) > 0 {
			img.Owners = img.Owners[at : at+1]
		}
	}
	if size(spec) <= maxSpecBytes {
		return spec
	}
	for i := range spec.Images {
		spec.Images[i].Owners = nil
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
