package plan

import (
	"slices"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/store"
)

// Hear gives the wish after the API server said how the node's object stands; nil when
// there is none. While the wish for an object is not worked out, or the object is missing,
// what was wished before is held: a cloud that deleted the Node of a dark box and made it
// again has not asked for its images to go.
func Hear(before store.Desired, object *v1alpha1.NodeImageCache) store.Desired {
	if object == nil {
		before.Known = false
		return before
	}
	after := store.Desired{
		UID:        string(object.UID),
		Generation: object.Generation,
		Spec:       *object.Spec.DeepCopy(),
		Known:      object.Spec.NodeUID != "",
	}
	if !after.Known {
		after.Held = held(before, after.Spec.Images)
	}
	return after
}

func held(before store.Desired, now []v1alpha1.NodeImage) []v1alpha1.NodeImage {
	var out []v1alpha1.NodeImage
	for _, img := range slices.Concat(before.Spec.Images, before.Held) {
		same := func(other v1alpha1.NodeImage) bool { return other.Name == img.Name }
		if !slices.ContainsFunc(now, same) && !slices.ContainsFunc(out, same) {
			out = append(out, img)
		}
	}
	return out
}
