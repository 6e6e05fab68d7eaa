package caches

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTransitions(t *testing.T) {
	t.Parallel()
	ready := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: "Ready", Status: status, Reason: reason, Message: message}
	}
	pullable := func(status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: "Pullable", Status: status, Reason: reason, Message: "image x"}
	}
	stalled := metav1.Condition{Type: "Stalled", Status: metav1.ConditionTrue, Reason: "TooManyFailures", Message: "stopped"}
	tests := map[string]struct {
		before, after []metav1.Condition
		want          []transition
	}{
		"new": {nil, []metav1.Condition{ready("False", "Progressing", "0 of 3")}, []transition{{"Normal", "Progressing", "0 of 3"}}},
		"only numbers": {
			[]metav1.Condition{ready("False", "Progressing", "0 of 3")}, []metav1.Condition{ready("False", "Progressing", "1 of 3")}, nil,
		},
		"done": {
			[]metav1.Condition{ready("False", "Progressing", "1 of 3")}, []metav1.Condition{ready("True", "AllCached", "3 of 3")},
			[]transition{{"Normal", "AllCached", "3 of 3"}},
		},
		"failing and stopped": {
			[]metav1.Condition{ready("False", "Progressing", "")}, []metav1.Condition{ready("False", "ImagesFailing", "why"), stalled},
			[]transition{{"Warning", "ImagesFailing", "why"}, {"Warning", "TooManyFailures", "stopped"}},
		},
		"a tag turned bad": {
			[]metav1.Condition{ready("True", "AllCached", ""), pullable("True", "AllPullable")}, []metav1.Condition{ready("True", "AllCached", ""), pullable("False", "NotPullable")},
			[]transition{{"Warning", "NotPullable", "image x"}},
		},
		"and good again": {
			[]metav1.Condition{ready("True", "AllCached", ""), pullable("False", "NotPullable")}, []metav1.Condition{ready("True", "AllCached", ""), pullable("True", "AllPullable")}, nil,
		},
		"bad from the beginning": {
			nil, []metav1.Condition{ready("False", "NotPullable", "why"), pullable("False", "NotPullable")}, []transition{{"Warning", "NotPullable", "why"}},
		},
		"goes on": {
			[]metav1.Condition{ready("False", "ImagesFailing", ""), stalled}, []metav1.Condition{ready("False", "ImagesFailing", "")}, nil,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, transitions(tc.before, tc.after), cmp.AllowUnexported(transition{})); diff != "" {
				t.Errorf("transitions (-want +got):\n%s", diff)
			}
		})
	}
}
