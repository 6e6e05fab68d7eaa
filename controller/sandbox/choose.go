package sandbox

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// maxImages is how many sandbox images count. A fleet has as many as versions of runtimes.
const maxImages = 8

// reported gives what a node's agent says of its runtime, zero when it says nothing that
// makes sense.
func reported(object *v1alpha1.NodeImageCache) imageref.Reference {
	ref, err := imageref.Parse(object.Status.Runtime.SandboxImage)
	if err != nil {
		return imageref.Reference{}
	}
	return ref
}

// rank gives the images that nodes report, those of most nodes first; of equals those that
// count already.
func rank(objects []*v1alpha1.NodeImageCache, counting func(imageref.Reference) bool) []imageref.Reference {
	nodes := map[imageref.Reference]int{}
	for _, o := range objects {
		if ref := reported(o); !ref.IsZero() {
			nodes[ref]++
		}
	}
	refs := make([]imageref.Reference, 0, len(nodes))
	for ref := range nodes {
		refs = append(refs, ref)
	}
	weight := func(ref imageref.Reference) int {
		if counting(ref) {
			return 2*nodes[ref] + 1
		}
		return 2 * nodes[ref]
	}
	slices.SortFunc(refs, func(a, b imageref.Reference) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), imageref.Compare(a, b))
	})
	return refs
}

// choose takes the first of the ranked images, at most maxImages. One that does not count yet
// must be allowed to. waits says whether one was not.
func choose(ranked []imageref.Reference, counting func(imageref.Reference) bool, allowed func() bool) (chosen []imageref.Reference, waits bool) {
	for _, ref := range ranked[:min(len(ranked), maxImages)] {
		if counting(ref) || !waits && allowed() {
			chosen = append(chosen, ref)
		} else {
			waits = true
		}
	}
	return chosen, waits
}

// written gives the digest that most nodes' specs have of an image on behalf of the runtime,
// "" when none does.
func written(objects []*v1alpha1.NodeImageCache, ref imageref.Reference) digest.Digest {
	name, votes := ref.String(), map[string]int{}
	for _, o := range objects {
		if img := entry(o, name); img != nil && ours(img) {
			votes[img.Digest]++
		}
	}
	best := ""
	for d, n := range votes {
		if n > votes[best] || n == votes[best] && d < best {
			best = d
		}
	}
	return digest.Digest(best)
}

// entry finds an image in a node's spec, which is sorted by name.
func entry(object *v1alpha1.NodeImageCache, name string) *v1alpha1.NodeImage {
	images := object.Spec.Images
	i, found := slices.BinarySearchFunc(images, name, func(img v1alpha1.NodeImage, n string) int { return cmp.Compare(img.Name, n) })
	if !found {
		return nil
	}
	return &images[i]
}

// ours says whether an image stands in a spec on behalf of the runtime.
func ours(img *v1alpha1.NodeImage) bool {
	return slices.Contains(img.Owners, v1alpha1.OwnerSandboxImage)
}

// differs says whether a spec is other than it should be: the node's image stands there for
// the runtime with the digest that was found, "" for none, and no other image does.
func differs(object *v1alpha1.NodeImageCache, ref imageref.Reference, found digest.Digest) bool {
	there := false
	for i := range object.Spec.Images {
		img := &object.Spec.Images[i]
		if !ours(img) {
			continue
		}
		if found == "" || img.Name != ref.String() || img.Digest != found.String() {
			return true
		}
		there = true
	}
	return !there && found != ""
}
