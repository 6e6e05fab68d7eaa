package report

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// TestWorthOfLinks: how links are is told with what else there is to tell.
func TestWorthOfLinks(t *testing.T) {
	t.Parallel()
	base := func() *v1alpha1.NodeImageCacheStatus {
		return statusOf(2, 20, func(s *v1alpha1.NodeImageStatus) { s.Phase, s.Size, s.BytesPulled = v1alpha1.PhasePulling, 1000, 100 })
	}
	tests := map[string]struct {
		edit func(*v1alpha1.NodeImageCacheStatus)
		want urgency
	}{
		"how a link is": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Registries = []v1alpha1.RegistryStatus{{Host: "r.example", Reachable: metav1.ConditionFalse, BytesPerSecond: 5}}
		}, minor},
		"how fast it unpacks": {func(s *v1alpha1.NodeImageCacheStatus) { s.UnpackBytesPerSecond = 5 }, none},
		"all wait for a window": {func(s *v1alpha1.NodeImageCacheStatus) {
			for i := range s.Images {
				s.Images[i].Phase, s.Images[i].Reason = v1alpha1.PhasePending, v1alpha1.ReasonOutsideWindow
			}
		}, urgent},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next := base()
			tc.edit(next)
			if got := worth(base(), next); got != tc.want {
				t.Errorf("worth = %d, want %d", got, tc.want)
			}
		})
	}
}
