package report

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// TestWorthOfFailing: what goes on failing is no news, or news that can wait.
func TestWorthOfFailing(t *testing.T) {
	t.Parallel()
	base := func() *v1alpha1.NodeImageCacheStatus {
		s := statusOf(2, 20, func(s *v1alpha1.NodeImageStatus) {
			s.Phase, s.Reason, s.Message, s.Attempts, s.Since = v1alpha1.PhaseFailed, "NetworkError", "cut after 5 bytes", 5, &began
			s.Resolved = &v1alpha1.ResolvedTag{Reason: "NetworkError"}
		})
		s.Summary.Failed = 2
		s.Conditions = []metav1.Condition{{Type: v1alpha1.NodeConditionReady, Status: metav1.ConditionFalse, Reason: "ImagesFailing", Message: "2 failing"}, degraded("refused", 1)}
		return s
	}
	tests := map[string]struct {
		edit func(*v1alpha1.NodeImageCacheStatus)
		want urgency
	}{
		"another attempt, other words": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Images[0].Attempts, s.Images[0].Message = 6, "cut after 6 bytes"
		}, none},
		"twice the attempts":                      {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].Attempts = 8 }, minor},
		"another reason":                          {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].Reason = "NotFound" }, minor},
		"another reason why its tag is not found": {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].Resolved.Reason = "NotFound" }, minor},
		"its tag is asked for with another token": {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].Resolved = nil }, urgent},
		"bytes are coming": {func(s *v1alpha1.NodeImageCacheStatus) {
			i := &s.Images[0]
			i.Phase, i.Reason, i.Message, i.Since = v1alpha1.PhasePulling, "", "", nil
			s.Summary.Failed, s.Conditions[0].Message = 1, "1 failing"
		}, minor},
		"another trouble": {func(s *v1alpha1.NodeImageCacheStatus) { s.Conditions[1].Message = "timeout" }, minor},
		"it is cached": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Images[0] = v1alpha1.NodeImageStatus{Name: s.Images[0].Name, Digest: s.Images[0].Digest, Phase: v1alpha1.PhaseCached}
		}, urgent},
		"another digest is wished": {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].Digest = digestOf("b").String() }, urgent},
		"pods start from another":  {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].Current = digestOf("b").String() }, urgent},
		"the trouble is over":      {func(s *v1alpha1.NodeImageCacheStatus) { s.Conditions = s.Conditions[:1] }, urgent},
		"another key":              {func(s *v1alpha1.NodeImageCacheStatus) { s.Key = &v1alpha1.NodeKey{ID: "k"} }, urgent},
		"the node is ready":        {func(s *v1alpha1.NodeImageCacheStatus) { s.Conditions[0].Status = metav1.ConditionTrue }, urgent},
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

// TestUnseen: an agent that could not look at the runtime says so, and nothing else that
// was not said before.
func TestUnseen(t *testing.T) {
	t.Parallel()
	said := statusOf(2, 20, func(s *v1alpha1.NodeImageStatus) { s.Phase = v1alpha1.PhaseCached })
	said.ObservedGeneration = 5
	ready := metav1.Condition{Type: v1alpha1.NodeConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllCached, LastTransitionTime: began}
	said.Conditions = []metav1.Condition{ready}
	key := &v1alpha1.NodeKey{ID: "new", Recipient: "age1new"}
	said.Key = &v1alpha1.NodeKey{ID: "old", Recipient: "age1old"}
	got := Unseen(*said, key, strings.Repeat("long ", 10_000))
	if diff := cmp.Diff(said.Images, got.Images); diff != "" || got.ObservedGeneration != 5 || !cmp.Equal(got.Conditions[0], ready) {
		t.Errorf("generation %d, conditions %v, images (-said +got):\n%s", got.ObservedGeneration, got.Conditions, diff)
	}
	if c := meta.FindStatusCondition(got.Conditions, v1alpha1.NodeConditionDegraded); c == nil || len(c.Message) > maxMessage || c.ObservedGeneration != 5 {
		t.Errorf("Degraded = %+v, want a message of at most %d bytes", c, maxMessage)
	}
	if !cmp.Equal(got.Key, key) {
		t.Errorf("key %+v, want the present one", got.Key)
	}
	if len(said.Conditions) != 1 || said.Key.ID != "old" {
		t.Error("what was said was changed")
	}
	fresh := Unseen(v1alpha1.NodeImageCacheStatus{}, nil, "away")
	if c := meta.FindStatusCondition(fresh.Conditions, v1alpha1.NodeConditionReady); c == nil || c.Status != metav1.ConditionUnknown || fresh.ObservedGeneration != 0 {
		t.Errorf("of a new object: generation %d, Ready %+v, want 0, Unknown", fresh.ObservedGeneration, c)
	}
}

// TestTroubleIsCut: a thousand names that are not removed fit no condition.
func TestTroubleIsCut(t *testing.T) {
	t.Parallel()
	got := Build(State{Trouble: strings.Repeat("removing r.io/app:v1: refused; ", 2000)}, nil)
	if c := meta.FindStatusCondition(got.Conditions, v1alpha1.NodeConditionDegraded); c == nil || len(c.Message) > maxMessage {
		t.Errorf("Degraded = %v, want a message of at most %d bytes", c, maxMessage)
	}
}

// TestAnotherStatusIsPutRight: what a restored backup brought back is written over once;
// echoes of own writes, late or lost, cost nothing.
func TestAnotherStatusIsPutRight(t *testing.T) {
	t.Parallel()
	object := func(phase v1alpha1.ImagePhase) *v1alpha1.NodeImageCache {
		o := &v1alpha1.NodeImageCache{Status: *statusOf(1, 20, func(s *v1alpha1.NodeImageStatus) { s.Phase, s.Size = phase, 7 })}
		o.UID = "a"
		return o
	}
	pulling, cached, failed := object(v1alpha1.PhasePulling), object(v1alpha1.PhaseCached), object(v1alpha1.PhaseFailed)
	tests := map[string]struct {
		hear func(*Reporter)
		want int
	}{
		"nothing is heard": {func(*Reporter) {}, 2},
		"the echo":         {func(r *Reporter) { r.Hear(cached) }, 2},
		"the echo of an older write, then that of the last": {func(r *Reporter) {
			r.Hear(pulling)
			time.Sleep(30 * time.Second)
			r.Hear(cached)
		}, 2},
		"the object is gone":  {func(r *Reporter) { r.Hear(nil) }, 2},
		"another object":      {func(r *Reporter) { o := failed.DeepCopy(); o.UID = "b"; r.Hear(o) }, 2},
		"a field is dropped":  {func(r *Reporter) { o := cached.DeepCopy(); o.Status.Images[0].Size = 0; r.Hear(o) }, 2},
		"somebody else's":     {func(r *Reporter) { r.Hear(failed); time.Sleep(5 * time.Minute); r.Hear(cached) }, 3},
		"another key":         {func(r *Reporter) { o := cached.DeepCopy(); o.Status.Key = &v1alpha1.NodeKey{ID: "k"}; r.Hear(o) }, 3},
		"a backup without it": {func(r *Reporter) { r.Hear(&v1alpha1.NodeImageCache{ObjectMeta: cached.ObjectMeta}) }, 3},
		"a server that insists": {func(r *Reporter) {
			for range 60 {
				r.Hear(failed)
				time.Sleep(2 * time.Minute)
			}
		}, 2 + 13},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &paper{start: time.Now()}
				r := NewReporter(p)
				go r.Run(t.Context())
				r.Hear(pulling)
				for _, o := range []*v1alpha1.NodeImageCache{pulling, cached} {
					r.Offer("a", o.Status.DeepCopy())
					time.Sleep(10 * time.Second)
				}
				tc.hear(r)
				time.Sleep(time.Hour)
				if lines, _ := p.read(); len(lines) != tc.want {
					t.Errorf("%d writes, want %d: %v", len(lines), tc.want, lines)
				}
			})
		})
	}
}

// TestARiskThatIsNotJudgedAnyMore goes: an agent with other settings said it.
func TestARiskThatIsNotJudgedAnyMore(t *testing.T) {
	t.Parallel()
	risk := metav1.Condition{Type: v1alpha1.NodeConditionOfflineStartAtRisk, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPullsNotSynced}
	before := Build(State{OfflineStart: &risk}, nil).Conditions
	if meta.FindStatusCondition(before, risk.Type) == nil {
		t.Fatal("the risk is not told")
	}
	if after := Build(State{}, before).Conditions; meta.FindStatusCondition(after, risk.Type) != nil {
		t.Errorf("conditions %+v", after)
	}
}
