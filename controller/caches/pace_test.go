package caches

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

func TestPace(t *testing.T) {
	t.Parallel()
	written := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	before := v1alpha1.ImageCacheStatus{
		ObservedGeneration: 1,
		Conditions:         []metav1.Condition{{Type: "Ready", Status: "False", Reason: "Progressing", Message: "1 of 3"}},
		Nodes:              v1alpha1.NodeCounts{Ready: 1},
		Images:             []v1alpha1.ImageStatus{{Name: "a", Digest: "d1"}, {Name: "b"}},
	}
	for name, tc := range map[string]struct {
		edit  func(*v1alpha1.ImageCacheStatus)
		after time.Duration
		want  time.Duration
	}{
		"figures, just written":     {func(s *v1alpha1.ImageCacheStatus) { s.Nodes.Ready = 2 }, time.Second, 4 * time.Second},
		"figures, written long ago": {func(s *v1alpha1.ImageCacheStatus) { s.Nodes.Ready = 2 }, time.Minute, 0},
		"a sentence with figures":   {func(s *v1alpha1.ImageCacheStatus) { s.Conditions[0].Message = "2 of 3" }, time.Second, 4 * time.Second},
		"another reason":            {func(s *v1alpha1.ImageCacheStatus) { s.Conditions[0].Reason = "ImagesFailing" }, time.Second, 0},
		"a condition more": {func(s *v1alpha1.ImageCacheStatus) {
			s.Conditions = append(s.Conditions, metav1.Condition{Type: "Stalled"})
		}, time.Second, 0},
		"a digest is found":            {func(s *v1alpha1.ImageCacheStatus) { s.Images[1].Digest = "d" }, time.Second, 4 * time.Second},
		"a digest moved":               {func(s *v1alpha1.ImageCacheStatus) { s.Images[0].Digest = "d2" }, time.Second, 0},
		"an edit is observed":          {func(s *v1alpha1.ImageCacheStatus) { s.ObservedGeneration = 2 }, time.Second, 0},
		"a refresh is handled":         {func(s *v1alpha1.ImageCacheStatus) { s.LastHandledRefreshAt = "now" }, time.Second, 0},
		"figures, by a clock put back": {func(s *v1alpha1.ImageCacheStatus) { s.Nodes.Ready = 2 }, -time.Hour, figuresEvery},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := before.DeepCopy()
			tc.edit(after)
			if got := pace(&before, after, written, written.Add(tc.after)); got != tc.want {
				t.Errorf("waits %s, want %s", got, tc.want)
			}
		})
	}
}
