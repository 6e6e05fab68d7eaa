package caches

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// figuresEvery is the least time between two writes of a status in which only figures
// moved: ten thousand nodes that come in over minutes must not be hundreds of writes of an
// object that may have a thousand images.
const figuresEvery = 5 * time.Second

// pace says how long a changed status waits: not at all when it says more than figures.
func pace(before, after *v1alpha1.ImageCacheStatus, written, now time.Time) time.Duration {
	if !onlyFigures(before, after) {
		return 0
	}
	// Bounded, as a clock may be put back.
	return min(max(0, written.Add(figuresEvery).Sub(now)), figuresEvery)
}

// onlyFigures says whether conditions and what was handled are as before, and no digest moved:
// a controller that is started again goes on from those in the status.
func onlyFigures(before, after *v1alpha1.ImageCacheStatus) bool {
	return before.ObservedGeneration == after.ObservedGeneration && before.LastHandledRefreshAt == after.LastHandledRefreshAt &&
		slices.EqualFunc(before.Images, after.Images, func(a, b v1alpha1.ImageStatus) bool {
			return a.Name == b.Name && (a.Digest == "" || a.Digest == b.Digest)
		}) &&
		slices.EqualFunc(before.Conditions, after.Conditions, func(a, b metav1.Condition) bool {
			return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason
		})
}
