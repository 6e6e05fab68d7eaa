package caches

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/v1alpha1"
)

// staleList is the lister as it was before an event that the handler has taken in.
type staleList struct {
	listers.ImageCacheLister
	old []*v1alpha1.ImageCache
}

func (s staleList) List(labels.Selector) ([]*v1alpha1.ImageCache, error) { return s.old, nil }

func TestPrimeKeepsANewerSpec(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	old := resolved("a", "r.io/a:v1")
	s.create(old)
	edited := resolved("a", "r.io/a:v1")
	edited.Generation = 2
	s.put(s.caches, edited)
	s.View.Put(edited)
	s.Caches = staleList{s.Caches, []*v1alpha1.ImageCache{old}}
	if err := s.Prime(); err != nil {
		t.Fatal(err)
	}
	if !s.View.Get("ns/a").Shows(edited) {
		t.Error("the view has the old spec, and Sync waits for an event that came already")
	}
}

func TestPrimeLeavesTheDeletedOut(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	old := resolved("a", "r.io/a:v1")
	s.create(old)
	s.drop(old)
	s.Caches = staleList{s.Caches, []*v1alpha1.ImageCache{old}}
	if err := s.Prime(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sync(t.Context(), key("a")); err != nil {
		t.Fatal(err)
	}
	if s.View.Get("ns/a") != nil {
		t.Error("a deleted ImageCache stands in the view for good")
	}
}

func TestRefusedFromTheStart(t *testing.T) {
	t.Parallel()
	s := newStand(t, ten)
	s.weighs("r.io/a:v1", 11)
	a := resolved("a", "r.io/a:v1", "r.io/b:v1")
	a.Status.Images = a.Status.Images[:1] // b was never found
	s.create(a)
	if err := s.Prime(); err != nil {
		t.Fatal(err)
	}
	s.expect("a", v1alpha1.StateSuspended, "would have 11.")
}

func TestStalledThroughARefresh(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	ref := "r.io/a:latest"
	s.join(1, func(o *v1alpha1.NodeImageCache) {
		o.Spec.Images = []v1alpha1.NodeImage{{Name: ref, Digest: digestFor(ref).String(), Owners: []string{"ns/a"}}}
		o.Status.Images = []v1alpha1.NodeImageStatus{{Name: ref, Digest: digestFor(ref).String(), Phase: v1alpha1.PhaseFailed, Reason: "X"}}
	})
	s.join(2, func(o *v1alpha1.NodeImageCache) {})
	a := resolved("a", ref)
	a.Spec.Rollout = &v1alpha1.Rollout{MaxConcurrentNodes: new(intstr.FromInt32(1)), MaxFailurePercent: new(int32(0))}
	a.Spec.RefreshInterval = &metav1.Duration{Duration: time.Minute}
	s.create(a)
	ic := s.sync("a")
	if meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionStalled) == nil {
		t.Fatal("not stalled")
	}
	s.advance(2 * time.Minute) // a refresh is due: its look-up is under way
	ic = s.sync("a")
	if len(s.looked) == 0 {
		t.Fatal("no refresh")
	}
	if meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionStalled) == nil {
		t.Errorf("no longer Stalled while a refresh is under way: %+v", ic.Status.Conditions)
	}
}
