package caches

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/brief"
)

// transition is a change of an ImageCache that is worth an event.
type transition struct{ kind, reason, message string }

// transitions compares conditions: Ready when its status or reason changed, Stalled when it
// appeared or changed its reason, Pullable when it turned bad and Ready does not say so.
// What only changes numbers is no transition.
func transitions(before, after []metav1.Condition) []transition {
	var out []transition
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionPullable} {
		now := meta.FindStatusCondition(after, kind)
		was := meta.FindStatusCondition(before, kind)
		if now == nil || was != nil && was.Status == now.Status && was.Reason == now.Reason {
			continue
		}
		if kind == v1alpha1.ConditionPullable && (!warns(now.Reason) || said(out, now.Reason)) {
			continue
		}
		t := transition{kind: corev1.EventTypeNormal, reason: now.Reason, message: brief.Text(now.Message, 1024)}
		if kind == v1alpha1.ConditionStalled || warns(now.Reason) {
			t.kind = corev1.EventTypeWarning
		}
		out = append(out, t)
	}
	return out
}

func said(events []transition, reason string) bool {
	return slices.ContainsFunc(events, func(t transition) bool { return t.reason == reason })
}

// warns says whether somebody should look.
func warns(reason string) bool {
	switch reason {
	case v1alpha1.ReasonImagesFailing, v1alpha1.ReasonNotPullable, v1alpha1.ReasonInvalidReference,
		v1alpha1.ReasonInconclusive, v1alpha1.ReasonNoNodeReachable, v1alpha1.ReasonNotAllowed:
		return true
	}
	return false
}
