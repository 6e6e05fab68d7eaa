package report

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// Hold is what keeps an image from being brought although it is missing.
type Hold struct{ Reason, Message string }

// held is an image that waits for something other than its turn. It is failing if it failed
// of that before: a registry that is not reached stays a failure while it is waited for.
func (s *State) held(st v1alpha1.NodeImageStatus, h Hold, w Work) v1alpha1.NodeImageStatus {
	st.Reason, st.Message = h.Reason, Cut(h.Message)
	if !w.Since.IsZero() {
		st.Since = new(w.Since)
	}
	failure := s.Ledger[st.Name].Failure
	if failure == nil || failure.Digest != st.Digest {
		return st
	}
	st.Attempts = failure.Attempts
	if failure.Reason == h.Reason {
		st.Phase, st.Message = v1alpha1.PhaseFailed, Cut(h.Message+": "+failure.Message)
		st.Since = new(metav1.NewTime(failure.Since))
	}
	return st
}
