package report

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"edgecache.dev/api/v1alpha1"
)

// urgency says how soon a status should be written.
type urgency int

const (
	none   urgency = iota // says nothing new
	minor                 // figures moved
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
	moved := minorChanges(a, b)
	for _, s := range []*v1alpha1.NodeImageCacheStatus{a, b} {
		s.Disk, s.OtherImages, s.Summary.Available = nil, nil, ""
		s.Registries, s.UnpackBytesPerSecond = nil, 0
		for i := range s.Images {
			s.Images[i].BytesPulled, s.Images[i].Size = 0, 0
		}
	}
	switch {
	case !equality.Semantic.DeepEqual(a, b):
		return urgent
	case moved:
		return minor
	}
	return none
}

// minorChanges says whether figures moved far enough to be told.
func minorChanges(a, b *v1alpha1.NodeImageCacheStatus) bool {
	if (a.Disk == nil) != (b.Disk == nil) || a.Disk != nil && far(a.Disk.Available, b.Disk.Available, b.Disk.Capacity, diskStep) {
		return true
	}
	if !equality.Semantic.DeepEqual(a.OtherImages, b.OtherImages) || !equality.Semantic.DeepEqual(a.Registries, b.Registries) {
		return true
	}
	return slices.ContainsFunc(b.Images, func(n v1alpha1.NodeImageStatus) bool {
		i := slices.IndexFunc(a.Images, func(o v1alpha1.NodeImageStatus) bool { return o.Name == n.Name && o.Digest == n.Digest })
		if i < 0 {
			return true
		}
		return a.Images[i].Size != n.Size || far(a.Images[i].BytesPulled, n.BytesPulled, n.Size, progressStep)
	})
}

// far says whether two figures are at least step percent of the whole apart.
func far(a, b, whole int64, step int64) bool {
	if whole <= 0 {
		return a != b
	}
	return max(a-b, b-a)*100 >= whole*step
}
