package report

import (
	"math/bits"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// urgency says how soon a status should be written.
type urgency int

const (
	none   urgency = iota // says nothing new
	minor                 // figures moved, or what fails fails in another way
	step                  // an image is further, and others are under way
	answer                // a registry said what a tag stands for: the site waits for it
	urgent                // something happened
)

const (
	// progressStep is the share of an image, in percent, below which progress is not
	// worth a write.
	progressStep = 5
	// diskStep is the share of the file system, in percent, for its free space.
	diskStep = 5
	// minorEvery is the least time between writes of moved figures.
	minorEvery = time.Minute
)

// worth compares a status with the one written last.
func worth(last, next *v1alpha1.NodeImageCacheStatus) urgency {
	if last == nil {
		return urgent
	}
	a, b := last.DeepCopy(), next.DeepCopy()
	before := byImage(a.Images)
	figures, words, flaps := figuresMoved(a, b, before), wordsMoved(a, b), calm(b.Images, before)
	for _, s := range []*v1alpha1.NodeImageCacheStatus{a, b} {
		strip(s)
	}
	switch {
	case !equality.Semantic.DeepEqual(a, b):
		return worthOfSteps(a, b)
	case figures || words || flaps:
		return minor
	}
	return none
}

// worthOfSteps tells steps on the way and answers of registries from what is urgent: the end
// of work, that a node begins to fail, removals, troubles. Both statuses were stripped.
func worthOfSteps(a, b *v1alpha1.NodeImageCacheStatus) urgency {
	switch {
	case fails(b) && !fails(a), !equality.Semantic.DeepEqual(withoutSteps(a), withoutSteps(b)):
		return urgent
	case answers(a, b) && (underWay(b) || onlyAnswered(a, b)):
		return answer
	case underWay(b) && !answers(a, b):
		return step
	}
	return urgent
}

// onlyAnswered says whether the images differ only in what registries gave for them.
func onlyAnswered(a, b *v1alpha1.NodeImageCacheStatus) bool {
	return a.ObservedGeneration == b.ObservedGeneration && slices.EqualFunc(a.Images, b.Images, func(x, y v1alpha1.NodeImageStatus) bool {
		x.Resolved, y.Resolved = nil, nil
		return equality.Semantic.DeepEqual(x, y)
	})
}

// strip leaves what is urgent when it changes. The summary, and why and how far a node is
// ready, only count what the images say.
func strip(s *v1alpha1.NodeImageCacheStatus) {
	s.Disk, s.OtherImages, s.Summary = nil, nil, v1alpha1.NodeImageCacheSummary{}
	s.Registries, s.UnpackBytesPerSecond = nil, 0
	for i := range s.Images {
		s.Images[i].BytesPulled, s.Images[i].Size = 0, 0
	}
	for i := range s.Conditions {
		s.Conditions[i].Reason, s.Conditions[i].Message = "", ""
	}
}

// underWay says whether images are still to come that have not failed: more will happen
// soon. What failed may take days, and so may what waits for a link or a window, and a
// digest that somebody else is to name.
func underWay(s *v1alpha1.NodeImageCacheStatus) bool {
	return slices.ContainsFunc(s.Images, func(i v1alpha1.NodeImageStatus) bool {
		return i.Digest != "" && i.Attempts == 0 && i.Reason == "" && (i.Phase == v1alpha1.PhasePending || i.Phase == v1alpha1.PhasePulling)
	})
}

// answers says whether b has an answer of a registry that a has not, or one that counts
// only with the generation that it was given in.
func answers(a, b *v1alpha1.NodeImageCacheStatus) bool {
	before := map[string]*v1alpha1.ResolvedTag{}
	for i := range a.Images {
		before[a.Images[i].Name] = a.Images[i].Resolved
	}
	return slices.ContainsFunc(b.Images, func(i v1alpha1.NodeImageStatus) bool {
		return i.Resolved != nil && (addsTo(before[i.Name], i.Resolved) || i.Resolved.Newer && a.ObservedGeneration != b.ObservedGeneration)
	})
}

// addsTo says whether an answer says more than the one before: not that this is outdated.
func addsTo(before, now *v1alpha1.ResolvedTag) bool {
	return before == nil || now.Digest != "" && now.Digest != before.Digest || now.RefreshToken != before.RefreshToken ||
		now.Reason != "" && before.Reason == "" || now.Newer && !before.Newer
}

func fails(s *v1alpha1.NodeImageCacheStatus) bool {
	return slices.ContainsFunc(s.Images, func(i v1alpha1.NodeImageStatus) bool { return i.Phase == v1alpha1.PhaseFailed })
}

// withoutSteps is a status without what changes while a node works its way through images.
func withoutSteps(s *v1alpha1.NodeImageCacheStatus) v1alpha1.NodeImageCacheStatus {
	rest := *s
	rest.ObservedGeneration, rest.Conditions, rest.Images = 0, nil, nil
	for _, c := range s.Conditions {
		if c.Type != v1alpha1.NodeConditionReady {
			c.ObservedGeneration = 0
			rest.Conditions = append(rest.Conditions, c)
		}
	}
	for i := range s.Images {
		if s.Images[i].Phase == v1alpha1.PhaseRemoving {
			rest.Images = append(rest.Images, s.Images[i])
		}
	}
	return rest
}

type imageKey struct{ name, digest string }

func byImage(images []v1alpha1.NodeImageStatus) map[imageKey]*v1alpha1.NodeImageStatus {
	m := make(map[imageKey]*v1alpha1.NodeImageStatus, len(images))
	for i := range images {
		m[imageKey{images[i].Name, images[i].Digest}] = &images[i]
	}
	return m
}

// figuresMoved says whether figures moved far enough to be told.
func figuresMoved(a, b *v1alpha1.NodeImageCacheStatus, before map[imageKey]*v1alpha1.NodeImageStatus) bool {
	if (a.Disk == nil) != (b.Disk == nil) || a.Disk != nil && far(a.Disk.Available, b.Disk.Available, b.Disk.Capacity, diskStep) {
		return true
	}
	if !equality.Semantic.DeepEqual(a.OtherImages, b.OtherImages) || !equality.Semantic.DeepEqual(a.Registries, b.Registries) {
		return true
	}
	return slices.ContainsFunc(b.Images, func(n v1alpha1.NodeImageStatus) bool {
		o := before[imageKey{n.Name, n.Digest}]
		return o == nil || o.Size != n.Size || far(o.BytesPulled, n.BytesPulled, n.Size, progressStep)
	})
}

// wordsMoved says whether a trouble is another one than before: its text may differ each
// time that it is met. That of Ready moves with the images.
func wordsMoved(a, b *v1alpha1.NodeImageCacheStatus) bool {
	return slices.ContainsFunc(b.Conditions, func(c metav1.Condition) bool {
		o := meta.FindStatusCondition(a.Conditions, c.Type)
		return c.Type != v1alpha1.NodeConditionReady && o != nil && (o.Reason != c.Reason || o.Message != c.Message)
	})
}

// calm takes out of two statuses how images that go on failing come and go between their
// attempts, and says whether that is worth telling: a thousand of them must not write a
// thousand times. Attempts count when they have doubled, messages not at all.
func calm(images []v1alpha1.NodeImageStatus, before map[imageKey]*v1alpha1.NodeImageStatus) (moved bool) {
	for i := range images {
		n := &images[i]
		o := before[imageKey{n.Name, n.Digest}]
		if o != nil && unanswered(o) && unanswered(n) {
			moved = moved || o.Resolved.Reason != n.Resolved.Reason
			o.Resolved.Reason = n.Resolved.Reason
		}
		if o == nil || !failing(o) || !failing(n) {
			continue
		}
		moved = moved || o.Phase != n.Phase || o.Reason != n.Reason || bits.Len32(uint32(o.Attempts)) != bits.Len32(uint32(n.Attempts))
		o.Phase, o.Reason, o.Message, o.Attempts, o.Since = n.Phase, n.Reason, n.Message, n.Attempts, n.Since
		if o.Resolved != nil && n.Resolved != nil && o.Resolved.Reason != "" && n.Resolved.Reason != "" {
			moved = moved || o.Resolved.Reason != n.Resolved.Reason
			o.Resolved.Reason = n.Resolved.Reason
		}
	}
	return moved
}

// unanswered says whether a registry does not say what a tag stands for now.
func unanswered(i *v1alpha1.NodeImageStatus) bool {
	return i.Resolved != nil && i.Resolved.Reason != ""
}

// failing says whether an image has failed before and is still to come.
func failing(i *v1alpha1.NodeImageStatus) bool {
	return i.Attempts > 0 && (i.Phase == v1alpha1.PhaseFailed || i.Phase == v1alpha1.PhasePulling || i.Phase == v1alpha1.PhasePending)
}

// far says whether two figures are at least step percent of the whole apart.
func far(a, b, whole int64, step int64) bool {
	if whole <= 0 {
		return a != b
	}
	return max(a-b, b-a)*100 >= whole*step
}
