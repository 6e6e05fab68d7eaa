package caches

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/limits"
	"edgecache.dev/controller/resolution"
)

// ten is a limit of ten bytes.
var ten = limits.Limits{{Namespaces: []string{"ns"}, MaxBytes: "10"}}

// made sets when an ImageCache was created.
func made(at int64, ic *v1alpha1.ImageCache) *v1alpha1.ImageCache {
	ic.CreationTimestamp = metav1.Unix(at, 0)
	return ic
}

func (s *stand) weighs(image string, bytes int64) { s.sizes[digestFor(image)] = bytes }

// expect checks an ImageCache's effective state and whether its status is Stalled.
func (s *stand) expect(name string, want v1alpha1.CacheState, part string) {
	s.tb.Helper()
	ic := s.sync(name)
	state := s.View.Get(wish.OwnerOf(ic)).State()
	c := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionStalled)
	if state != want || (c != nil) != (part != "") || c != nil && (!strings.Contains(c.Message, part) || c.Reason != v1alpha1.ReasonNotAllowed) {
		s.tb.Errorf("%s is %s, Stalled %+v, want %s with %q", name, state, c, want, part)
	}
}

func TestOnlyWhatFitsIsServed(t *testing.T) {
	t.Parallel()
	s := newStand(t, ten)
	s.weighs("r.io/a:v1", 6)
	s.weighs("r.io/b:v1", 5)
	s.join(1, func(*v1alpha1.NodeImageCache) {})
	a, b := made(1, resolved("a", "r.io/a:v1")), made(2, resolved("b", "r.io/b:v1"))
	s.create(b)
	s.create(a)
	if got := s.View.Get("ns/a").State(); got != v1alpha1.StateSuspended {
		t.Errorf("before it was weighed a cache is %s", got)
	}
	if err := s.Prime(); err != nil {
		t.Fatal(err)
	}
	if got := s.View.Get("ns/a").State(); got != v1alpha1.StateCached {
		t.Errorf("what fits is %s before nodes are looked after", got)
	}
	s.expect("a", v1alpha1.StateCached, "")
	s.touched = nil
	s.expect("b", v1alpha1.StateSuspended, "have 6 bytes, with the images of this one they would have 11.")
	if s.Accounts.Covers("ns/b", digestFor("r.io/b:v1")) || !s.Accounts.Covers("ns/a", digestFor("r.io/a:v1")) {
		t.Error("covers what does not fit, or not what fits")
	}

	s.others, s.touched = nil, nil
	s.drop(a)
	if _, err := s.Sync(t.Context(), key("a")); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.others, []wish.Owner{"ns/b"}) {
		t.Errorf("after a deletion %v are looked after, want ns/b", s.others)
	}
	s.expect("b", v1alpha1.StateCached, "")
	if !slices.Equal(s.touched, []string{"node-00001"}) {
		t.Errorf("nodes %v are told, want node-00001", s.touched)
	}
}

func TestWhatGrewKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	s := newStand(t, ten)
	s.weighs("r.io/a:v1", 6)
	s.weighs("r.io/b:v1", 5)
	s.join(1, func(o *v1alpha1.NodeImageCache) {
		o.Spec.Images = []v1alpha1.NodeImage{{Name: "r.io/a:v1", Digest: digestFor("r.io/a:v1").String(), Owners: []string{"ns/a"}}}
	})
	s.create(made(1, resolved("a", "r.io/a:v1")))
	s.expect("a", v1alpha1.StateCached, "")
	s.edit(2, made(1, resolved("a", "r.io/a:v1", "r.io/b:v1")))
	s.expect("a", v1alpha1.StateSuspended, "with the images of this one they would have 11.")
	s.create(made(2, resolved("b", "r.io/b:v1")))
	s.expect("b", v1alpha1.StateSuspended, "have 6 bytes, with")

	s.edit(3, made(1, resolved("a", "r.io/b:v1")))
	s.expect("a", v1alpha1.StateCached, "")
	s.expect("b", v1alpha1.StateCached, "") // it adds nothing
}

func TestWhatDoesNotFitIsLookedUp(t *testing.T) {
	t.Parallel()
	s := newStand(t, ten)
	s.weighs("r.io/a:v1", 11)
	ic := resolved("a", "r.io/a:v1")
	ic.Status = v1alpha1.ImageCacheStatus{}
	s.create(ic)
	s.sync("a")
	if len(s.looked) != 1 || s.View.Get("ns/a").State() != v1alpha1.StateSuspended {
		t.Fatalf("looked up %v, state %s, want one look-up and nothing told to nodes", s.looked, s.View.Get("ns/a").State())
	}
	found := resolved("a", "r.io/a:v1")
	s.Table.Take(resolution.Interest{ // as another namespace's cache knows it
		Owner: "ns/other", Namespace: "ns", Known: found.Status.Images,
		Images: s.View.Get("ns/a").References(), Again: func(imageref.Reference) bool { return false }, Quiet: true,
	})
	s.advance(gatherLookUps)
	s.expect("a", v1alpha1.StateSuspended, "would have 11.")
	refreshed := s.sync("a").DeepCopy()
	refreshed.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	s.put(s.caches, refreshed)
	s.View.Put(refreshed)
	s.looked = nil
	if _, err := s.Sync(t.Context(), key("a")); err != nil || len(s.looked) != 1 {
		t.Errorf("a refresh of what does not fit looks up %v (%v)", s.looked, err)
	}
}

func TestWhatGivesUpWeighsNothing(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*v1alpha1.ImageCache){
		"purged": func(ic *v1alpha1.ImageCache) { ic.Spec.State = v1alpha1.StatePurged },
		"being deleted": func(ic *v1alpha1.ImageCache) {
			ic.DeletionTimestamp = new(metav1.Unix(5, 0))
			ic.Finalizers = []string{"keep"}
		},
		"unsupported": func(ic *v1alpha1.ImageCache) { ic.Spec.Resolve = v1alpha1.ResolveNode },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, ten)
			s.weighs("r.io/a:v1", 6)
			s.weighs("r.io/b:v1", 5)
			a := made(1, resolved("a", "r.io/a:v1"))
			edit(a)
			s.create(a)
			s.create(made(2, resolved("b", "r.io/b:v1")))
			s.sync("a")
			s.expect("b", v1alpha1.StateCached, "")
		})
	}
}

func TestSizesThatComeLate(t *testing.T) {
	t.Parallel()
	s := newStand(t, ten)
	s.create(resolved("a", "r.io/a:v1"))
	s.expect("a", v1alpha1.StateCached, "")
	s.weighs("r.io/a:v1", 11)
	if got := s.Accounts.Sized(digestFor("r.io/a:v1")); !slices.Equal(got, []wish.Owner{"ns/a"}) {
		t.Fatalf("%v are looked after, want ns/a", got)
	}
	s.expect("a", v1alpha1.StateSuspended, "would have 11.")
}

// edit changes a spec, and waits for as long as nodes are not told for want of an answer.
func (s *stand) edit(generation int64, ic *v1alpha1.ImageCache) {
	s.tb.Helper()
	ic.Generation = generation
	s.put(s.caches, ic)
	s.View.Put(ic)
	s.sync(ic.Name)
	s.advance(gatherLookUps)
}

func (s *stand) advance(d time.Duration) { s.clock.SetTime(s.clock.Now().Add(d)) }
