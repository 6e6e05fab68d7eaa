package v1alpha1

import "time"

// DefaultRefresh is the refresh interval where none is given.
const DefaultRefresh = 15 * time.Minute

// RefreshEvery gives how often a tag is looked up again, 0 for never. moves says that
// users expect the tag to move: it is latest, or none is given.
func (s *ImageCacheSpec) RefreshEvery(moves bool) time.Duration {
	switch {
	case s.ImagePullPolicy == PullIfNotPresent, s.ImagePullPolicy == "" && !moves:
		return 0
	case s.RefreshInterval == nil:
		return DefaultRefresh
	}
	return s.RefreshInterval.Duration
}
