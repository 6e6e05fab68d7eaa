package plan

import (
	"slices"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/store"
)

// Hear gives the wish after the API server said how the node's object stands; nil when
// there is none. While the wish for an object is not worked out, or the object is missing,
// what was wished before is held: a cloud that deleted the Node of a dark box and made it
// again has not asked for its images to go. What the present object has among its removals
// is not held, and those end with the object that they stood in.
func Hear(before store.Desired, object *v1alpha1.NodeImageCache) store.Desired {
	if object == nil {
		before.Known, before.Spec.Remove = false, nil
		return before
	}
	after := store.Desired{
		UID:        string(object.UID),
		Generation: object.Generation,
		NodeUID:    nodeOf(object),
		Spec:       *object.Spec.DeepCopy(),
		Known:      object.Spec.NodeUID != "",
		Sandbox:    before.Sandbox,
	}
	if !after.Known {
		after.Held = held(before, after.Spec)
		after.HeldCredentials, after.HeldNodeUID = heldCredentials(before, after.UID)
	}
	return after
}

// heldCredentials gives the credentials of the images that were wished before, and the
// Node for which they were sealed: those of another object, or of a whole wish, else those
// that were held already.
func heldCredentials(before store.Desired, uid string) ([]v1alpha1.SealedCredential, string) {
	earlier := before.UID != uid || before.Spec.NodeUID != ""
	if earlier && len(before.Spec.Credentials) > 0 {
		return before.Spec.Credentials, before.NodeUID
	}
	return before.HeldCredentials, before.HeldNodeUID
}

// nodeOf gives the UID of the Node that owns an object. The spec has it only when the wish is
// complete, and credentials for a part of it are needed before.
func nodeOf(object *v1alpha1.NodeImageCache) string {
	for _, o := range object.OwnerReferences {
		if o.Kind == "Node" {
			return string(o.UID)
		}
	}
	return object.Spec.NodeUID
}

// held gives the images that were wished before and that a spec says nothing of.
func held(before store.Desired, now v1alpha1.NodeImageCacheSpec) []v1alpha1.NodeImage {
	spoken := map[string]bool{}
	for i := range now.Images {
		spoken[now.Images[i].Name] = true
	}
	for i := range now.Remove {
		spoken[now.Remove[i].Name] = true
	}
	var out []v1alpha1.NodeImage
	for _, img := range slices.Concat(before.Spec.Images, before.Held) {
		if !spoken[img.Name] {
			spoken[img.Name] = true
			out = append(out, img)
		}
	}
	return out
}
