package nodes

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

// MaxImages is how many images one node is asked to hold, as the CRD allows.
const MaxImages = 1000

// maxOwners is how many owners are named per image. An image with more loses nothing but
// the names: what decides whether it stays is the wish.
const maxOwners = 8

// Targets says what an image's name stands for in the whole fleet.
type Targets interface {
	// Target gives the digest frozen for the fleet, "" while there is none.
	Target(ref imageref.Reference) digest.Digest
	// Admits says whether an owner was found to have the right to the image.
	Admits(ref imageref.Reference, owner wish.Owner) bool
}

// planInput is all that a node's spec depends on.
type planInput struct {
	nodeUID string
	object  *v1alpha1.NodeImageCache
	wish    []wish.Image
	targets Targets
	size    func(digest.Digest) int64
	gaveUp  func(wish.Owner) bool
	now     time.Time
}

// plan works out a node's spec.
func plan(in planInput) v1alpha1.NodeImageCacheSpec {
	current := in.object.Spec
	wished, _ := wish.Limit(in.wish, MaxImages)
	images, complete := planImages(in, wished)
	spec := v1alpha1.NodeImageCacheSpec{
		NodeUID:     current.NodeUID,
		Images:      images,
		Credentials: current.Credentials,
		Remove:      planRemove(in, wished),
	}
	if spec.NodeUID == "" && complete && speaks(in.object, spec) {
		spec.NodeUID = in.nodeUID
	}
	return fit(spec)
}

// speaks says whether anybody is helped by knowing that the wish is complete: an object
// that nobody reads and that asks for nothing is not written a second time.
func speaks(object *v1alpha1.NodeImageCache, spec v1alpha1.NodeImageCacheSpec) bool {
	return len(spec.Images) > 0 || len(spec.Remove) > 0 || object.Status.ObservedGeneration > 0
}

// planImages gives an entry for each wished image that has a digest. complete is false
// while one of them has none.
func planImages(in planInput, wished []wish.Image) (images []v1alpha1.NodeImage, complete bool) {
	current := byName(in.object.Spec.Images)
	complete = true
	for i := range wished {
		w := &wished[i]
		before, known := current[w.Ref.String()]
		entry, ok := planImage(in, w, before)
		switch {
		case ok:
			images = append(images, entry)
		case known:
			images = append(images, *before)
		default:
			complete = false
		}
	}
	slices.SortFunc(images, func(a, b v1alpha1.NodeImage) int { return cmp.Compare(a.Name, b.Name) })
	return images, complete
}

func planImage(in planInput, w *wish.Image, before *v1alpha1.NodeImage) (v1alpha1.NodeImage, bool) {
	target := w.Held
	owners := w.Owners
	if target == "" {
		target = in.targets.Target(w.Ref)
		owners = admitted(in.targets, w)
	}
	if target == "" || len(owners) == 0 {
		return v1alpha1.NodeImage{}, false
	}
	entry := v1alpha1.NodeImage{Name: w.Ref.String(), Digest: target.String(), Priority: w.Priority}
	if w.Pin == v1alpha1.PinNever {
		entry.Pin = v1alpha1.PinNever
	}
	if w.KeepPrevious != wish.DefaultKeepPrevious {
		entry.KeepPrevious = new(w.KeepPrevious)
	}
	for _, o := range owners[:min(len(owners), maxOwners)] {
		entry.Owners = append(entry.Owners, string(o))
	}
	keepWritten(&entry, before)
	if entry.Size == 0 {
		entry.Size = in.size(target)
	}
	return entry, true
}

// keepWritten carries over what is only worked out once per digest. A size that is known
// better later is not worth a write to every node.
func keepWritten(entry *v1alpha1.NodeImage, before *v1alpha1.NodeImage) {
	if before == nil {
		return
	}
	entry.RefreshToken = before.RefreshToken
	entry.CredentialIDs = before.CredentialIDs
	if before.Digest == entry.Digest {
		entry.Size = before.Size
	}
}

// admitted leaves out owners whose own credentials were not found to read the image:
// naming another namespace's private image must not bring it to one's nodes.
func admitted(targets Targets, w *wish.Image) []wish.Owner {
	var owners []wish.Owner
	for _, o := range w.Owners {
		if targets.Admits(w.Ref, o) {
			owners = append(owners, o)
		}
	}
	return owners
}

// planRemove keeps what is still to be removed and adds what is no longer wished.
func planRemove(in planInput, wished []wish.Image) []v1alpha1.RemoveImage {
	wanted := map[string]bool{}
	for i := range wished {
		wanted[wished[i].Ref.String()] = true
	}
	var remove []v1alpha1.RemoveImage
	for _, r := range in.object.Spec.Remove {
		if !wanted[r.Name] && !gone(in.object, r) {
			remove = append(remove, r)
		}
	}
	for i := range in.object.Spec.Images {
		img := &in.object.Spec.Images[i]
		if !wanted[img.Name] && slices.ContainsFunc(img.Owners, func(o string) bool { return in.gaveUp(wish.Owner(o)) }) {
			remove = append(remove, v1alpha1.RemoveImage{Name: img.Name, Digest: img.Digest, Since: metav1.NewTime(in.now).Rfc3339Copy()})
		}
	}
	slices.SortFunc(remove, func(a, b v1alpha1.RemoveImage) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest, b.Digest))
	})
	return slices.CompactFunc(remove, func(a, b v1alpha1.RemoveImage) bool { return a.Name == b.Name && a.Digest == b.Digest })
}

// gone says whether the agent, having seen the present spec, no longer reports the image
// as being removed.
func gone(object *v1alpha1.NodeImageCache, r v1alpha1.RemoveImage) bool {
	if object.Status.ObservedGeneration < object.Generation {
		return false
	}
	return !slices.ContainsFunc(object.Status.Images, func(s v1alpha1.NodeImageStatus) bool {
		return s.Phase == v1alpha1.PhaseRemoving && s.Name == r.Name && s.Digest == r.Digest
	})
}

func byName(images []v1alpha1.NodeImage) map[string]*v1alpha1.NodeImage {
	m := make(map[string]*v1alpha1.NodeImage, len(images))
	for i := range images {
		m[images[i].Name] = &images[i]
	}
	return m
}
