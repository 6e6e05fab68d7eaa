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
	"edgecache.dev/controller/fleet"
)

// MaxImages is how many images one node is asked to hold, as the CRD allows.
const MaxImages = 1000

const (
	// maxRemove is how many removals one node is asked for, as the CRD allows.
	maxRemove = 2000
	// maxOwners is how many owners are named per image; those come first for whom it is
	// held only because they are named.
	maxOwners = 8
)

// Targets says what an image's name stands for in the whole fleet.
type Targets interface {
	// Target gives the digest frozen for the fleet, "" while there is none.
	Target(ref imageref.Reference) digest.Digest
	// Admits says whether an owner was found to have the right to the image.
	Admits(ref imageref.Reference, owner wish.Owner) bool
	// Refuses says whether an owner was found to have no right to the image, or the image
	// not to be there. As long as the registry does not answer neither is the case.
	Refuses(ref imageref.Reference, owner wish.Owner) bool
}

// planInput is all that a node's spec depends on.
type planInput struct {
	nodeUID string
	object  *v1alpha1.NodeImageCache
	wish    []wish.Image
	targets Targets
	// atSite gives what a tag stands for in the node's site, "" while there is no digest,
	// and when its nodes ask for it again.
	atSite func(imageref.Reference) digest.Digest
	ask    func(imageref.Reference) fleet.Ask
	size   func(digest.Digest) int64
	gaveUp func(wish.Owner) bool
	// strayed says whether the node no longer matches an owner that still names an image;
	// such images leave after the grace.
	strayed func(wish.Owner, imageref.Reference) bool
	grace   time.Duration
	// holds says whether an owner's rollout does not let this node in to a digest yet.
	holds  func(wish.Owner, imageref.Reference, digest.Digest) bool
	sealer *sealer
	now    time.Time
}

// plan works out a node's spec.
func plan(in planInput) v1alpha1.NodeImageCacheSpec {
	current := in.object.Spec
	wished, _ := wish.Limit(in.wish, MaxImages)
	images, awaited := planImages(in, wished)
	complete := len(awaited) == 0
	images = addStaying(in, images, awaited)
	sealed := in.sealer.fill(&current, images)
	spec := v1alpha1.NodeImageCacheSpec{
		NodeUID:     current.NodeUID,
		Images:      images,
		Credentials: sealed,
		Remove:      planRemove(in, images),
	}
	if spec.NodeUID == "" && complete && speaks(in.object, spec) {
		spec.NodeUID = in.nodeUID
	}
	return fit(spec, wished)
}

// speaks says whether anybody is helped by knowing that the wish is complete: an object
// that nobody reads and that asks for nothing is not written a second time.
func speaks(object *v1alpha1.NodeImageCache, spec v1alpha1.NodeImageCacheSpec) bool {
	return len(spec.Images) > 0 || len(spec.Remove) > 0 || object.Status.ObservedGeneration > 0
}

// planImages gives an entry for each wished image that has a digest. An image that is
// there stays as it is for owners who wait for an answer. awaited are the wished images
// that have no entry yet.
func planImages(in planInput, wished []wish.Image) (images []v1alpha1.NodeImage, awaited []*wish.Image) {
	current := byName(in.object.Spec.Images)
	for i := range wished {
		w := &wished[i]
		before := current[w.Ref.String()]
		entry, ok := planImage(in, w, before)
		if !ok {
			entry, ok = keepImage(in, w, before)
		}
		if ok {
			images = append(images, entry)
		} else {
			awaited = append(awaited, w)
		}
	}
	return images, awaited
}

func planImage(in planInput, w *wish.Image, before *v1alpha1.NodeImage) (v1alpha1.NodeImage, bool) {
	to, ok := choose(in, w, before)
	if !ok {
		return v1alpha1.NodeImage{}, false
	}
	if w.Held == "" && to.digest != "" && waits(in, w.Ref, to.digest, to.owners) {
		if before == nil {
			return v1alpha1.NodeImage{}, false
		}
		to.digest = digest.Digest(before.Digest)
	}
	entry := v1alpha1.NodeImage{Name: w.Ref.String(), Digest: to.digest.String(), Priority: w.Priority}
	to.ask.write(&entry)
	if w.Pin == v1alpha1.PinNever {
		entry.Pin = v1alpha1.PinNever
	}
	if w.KeepPrevious != wish.DefaultKeepPrevious {
		entry.KeepPrevious = new(w.KeepPrevious)
	}
	entry.Owners = name(to.owners, w.Holders)
	keepSize(&entry, before)
	if entry.Size == 0 && to.digest != "" {
		entry.Size = in.size(to.digest)
	}
	return entry, true
}

// waits says whether all owners hold a node back from a digest.
func waits(in planInput, ref imageref.Reference, target digest.Digest, owners []wish.Owner) bool {
	return !slices.ContainsFunc(owners, func(o wish.Owner) bool { return !in.holds(o, ref, target) })
}

// keepImage leaves an image that is there as it is while an owner of the wish may still be
// found to have the right to it. Owners that no longer ask for it are not named.
func keepImage(in planInput, w *wish.Image, before *v1alpha1.NodeImage) (v1alpha1.NodeImage, bool) {
	waiting := unrefused(in.targets, w)
	if before == nil || before.Digest == "" || len(waiting) == 0 {
		return v1alpha1.NodeImage{}, false
	}
	entry := *before
	entry.Owners, entry.LeavesAt = name(waiting, w.Holders), nil
	inquiry{}.write(&entry)
	return entry, true
}

// unrefused leaves out owners that were found to have no right to the image.
func unrefused(targets Targets, w *wish.Image) []wish.Owner {
	return slices.DeleteFunc(slices.Clone(w.Owners), func(o wish.Owner) bool { return targets.Refuses(w.Ref, o) })
}

// addStaying keeps what is no longer asked for, as far as there is place: until all that its
// owner asks for instead has come to the node's spec, and where the node no longer matches
// until the grace is over.
func addStaying(in planInput, images []v1alpha1.NodeImage, awaited []*wish.Image) []v1alpha1.NodeImage {
	stays := byName(images)
	for i := range in.object.Spec.Images {
		entry, ok := outgoing(in, in.object.Spec.Images[i], awaited)
		if !ok {
			entry, ok = leaving(in, in.object.Spec.Images[i])
		}
		if ok && stays[entry.Name] == nil && len(images) < MaxImages {
			images = append(images, entry)
		}
	}
	slices.SortFunc(images, func(a, b v1alpha1.NodeImage) int { return cmp.Compare(a.Name, b.Name) })
	return images
}

// outgoing keeps an image as it is for owners that gave it up while an image that they ask
// for is held back, not looked up or not let in by their rollout: an edit that names an
// image nobody can pull must not cost the nodes the one it replaces.
func outgoing(in planInput, entry v1alpha1.NodeImage, awaited []*wish.Image) (v1alpha1.NodeImage, bool) {
	entry.Owners = slices.DeleteFunc(slices.Clone(entry.Owners), func(o string) bool {
		return !in.gaveUp(wish.Owner(o)) || !awaits(awaited, wish.Owner(o))
	})
	if len(entry.Owners) == 0 || entry.Digest == "" || entry.LeavesAt != nil {
		return entry, false
	}
	inquiry{}.write(&entry)
	return entry, true
}

func awaits(awaited []*wish.Image, owner wish.Owner) bool {
	return slices.ContainsFunc(awaited, func(w *wish.Image) bool { return slices.Contains(w.Owners, owner) })
}

func leaving(in planInput, entry v1alpha1.NodeImage) (v1alpha1.NodeImage, bool) {
	ref, err := imageref.Parse(entry.Name)
	if err != nil {
		return entry, false // not written by this version
	}
	entry.Owners = slices.DeleteFunc(slices.Clone(entry.Owners), func(o string) bool { return !in.strayed(wish.Owner(o), ref) })
	if len(entry.Owners) == 0 || entry.Digest == "" {
		return entry, false
	}
	if entry.LeavesAt == nil {
		entry.LeavesAt = new(metav1.NewTime(in.now.Add(in.grace)).Rfc3339Copy())
	}
	return entry, in.now.Before(entry.LeavesAt.Time)
}

// nextLeave says how long it is until the next image leaves, 0 when none does.
func nextLeave(spec *v1alpha1.NodeImageCacheSpec, now time.Time) time.Duration {
	var next time.Duration
	for i := range spec.Images {
		if at := spec.Images[i].LeavesAt; at != nil {
			if d := max(at.Sub(now), time.Millisecond); next == 0 || d < next {
				next = d
			}
		}
	}
	return next
}

// name lists owners, at most maxOwners of them, holders before others.
func name(owners, holders []wish.Owner) []string {
	if len(owners) > maxOwners {
		held := func(o wish.Owner) bool { return slices.Contains(holders, o) }
		others := slices.DeleteFunc(slices.Clone(owners), held)
		owners = slices.DeleteFunc(slices.Clone(owners), func(o wish.Owner) bool { return !held(o) })
		owners = append(owners, others...)[:maxOwners]
		slices.Sort(owners)
	}
	names := make([]string, 0, len(owners))
	for _, o := range owners {
		names = append(names, string(o))
	}
	return names
}

// keepSize carries over what is only worked out once per digest. A size that is known
// better later is not worth a write to every node.
func keepSize(entry *v1alpha1.NodeImage, before *v1alpha1.NodeImage) {
	if before != nil && before.Digest == entry.Digest {
		entry.Size = before.Size
	}
}

// admitted leaves out owners whose own credentials were not found to read the image:
// naming another namespace's private image must not bring it to one's nodes.
func admitted(targets Targets, w *wish.Image) []wish.Owner {
	return slices.DeleteFunc(slices.Clone(w.Owners), func(o wish.Owner) bool { return !targets.Admits(w.Ref, o) })
}

// planRemove keeps what is still to be removed and adds what is no longer wished. What
// somebody may yet be found to have the right to is not removed, nor what found no place
// among the images.
func planRemove(in planInput, images []v1alpha1.NodeImage) []v1alpha1.RemoveImage {
	wanted := wantedNames(in)
	for i := range images {
		wanted[images[i].Name] = true
	}
	var remove []v1alpha1.RemoveImage
	for _, r := range in.object.Spec.Remove {
		if !wanted[r.Name] && !gone(in.object, r) {
			remove = append(remove, r)
		}
	}
	for i := range in.object.Spec.Images {
		img := &in.object.Spec.Images[i]
		if !wanted[img.Name] && img.Digest != "" && slices.ContainsFunc(img.Owners, func(o string) bool { return in.gaveUp(wish.Owner(o)) }) {
			remove = append(remove, v1alpha1.RemoveImage{Name: img.Name, Digest: img.Digest, Since: metav1.NewTime(in.now).Rfc3339Copy()})
		}
	}
	remove = newestRemovals(remove)
	slices.SortFunc(remove, compareRemovals)
	return slices.CompactFunc(remove, func(a, b v1alpha1.RemoveImage) bool { return compareRemovals(a, b) == 0 })
}

// wantedNames gives the images that somebody wants who was not refused.
func wantedNames(in planInput) map[string]bool {
	wanted := map[string]bool{}
	for i := range in.wish {
		w := &in.wish[i]
		if w.Held != "" || len(unrefused(in.targets, w)) > 0 {
			wanted[w.Ref.String()] = true
		}
	}
	return wanted
}

func compareRemovals(a, b v1alpha1.RemoveImage) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest, b.Digest))
}

// newestRemovals drops the oldest where a node that nobody hears was asked for too many.
func newestRemovals(remove []v1alpha1.RemoveImage) []v1alpha1.RemoveImage {
	if len(remove) <= maxRemove {
		return remove
	}
	slices.SortStableFunc(remove, func(a, b v1alpha1.RemoveImage) int { return b.Since.Compare(a.Since.Time) })
	return remove[:maxRemove]
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
