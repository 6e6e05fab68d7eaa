package fleet

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/limits"
)

func resolving(name, token string, edit func(*v1alpha1.ImageCacheSpec)) *v1alpha1.ImageCache {
	ic := imageCache(name, "app:v1", "app:latest", "app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	ic.Spec.Resolve = v1alpha1.ResolveNode
	if token != "" {
		ic.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: token}
	}
	if edit != nil {
		edit(&ic.Spec)
	}
	return ic
}

func TestAsk(t *testing.T) {
	t.Parallel()
	every := func(d time.Duration) func(*v1alpha1.ImageCacheSpec) {
		return func(s *v1alpha1.ImageCacheSpec) { s.RefreshInterval = &metav1.Duration{Duration: d} }
	}
	const two = "5d8a0f4ee7d5b6a2" // stands for a token of several
	tests := map[string]struct {
		caches            []*v1alpha1.ImageCache
		v1, latest, fixed Ask
	}{
		"nobody has nodes resolve": {caches: []*v1alpha1.ImageCache{imageCache("a", "app:v1")}},
		"once, and latest at every refresh": {
			caches: []*v1alpha1.ImageCache{resolving("a", "t", nil)},
			v1:     Ask{Token: "t"}, latest: Ask{Token: "t", Every: v1alpha1.DefaultRefresh},
		},
		"no periodic refresh": {
			caches: []*v1alpha1.ImageCache{resolving("a", "", every(0))},
		},
		"the shortest interval of several": {
			caches: []*v1alpha1.ImageCache{resolving("a", "", every(time.Hour)), resolving("b", "", every(time.Minute)), resolving("c", "", every(0))},
			latest: Ask{Every: time.Minute},
		},
		"one token of several": {
			caches: []*v1alpha1.ImageCache{resolving("a", "t", every(0)), resolving("b", "u", every(0))},
			v1:     Ask{Token: two}, latest: Ask{Token: two},
		},
		"a long token is cut": {
			caches: []*v1alpha1.ImageCache{resolving("a", strings.Repeat("t", 33), every(0))},
			v1:     Ask{Token: two}, latest: Ask{Token: two},
		},
		"a suspended one asks for nothing": {
			caches: []*v1alpha1.ImageCache{resolving("a", "t", func(s *v1alpha1.ImageCacheSpec) { s.State = v1alpha1.StateSuspended })},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := NewView(limits.Limits{})
			for _, ic := range tc.caches {
				v.Put(ic)
			}
			for image, want := range map[string]Ask{"app:v1": tc.v1, "app:latest": tc.latest, "app@sha256:" + strings.Repeat("a", 64): tc.fixed} {
				got := v.Ask(ref(t, image))
				if len(got.Token) == maxToken {
					got.Token = two
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", image, diff)
				}
			}
		})
	}
}

func TestATokenIsNews(t *testing.T) {
	t.Parallel()
	v := NewView(limits.Limits{})
	a := resolving("a", "t1", nil)
	v.Put(a)
	v.Put(resolving("b", "u", nil))
	if !slices.Equal(v.Sharing("ns/a"), []wish.Owner{"ns/b"}) || v.Sharing("ns/gone") != nil {
		t.Errorf("sharing with a: %v", v.Sharing("ns/a"))
	}
	if !v.Get("ns/a").Shows(a.DeepCopy()) {
		t.Error("the same is news")
	}
	before, compiled := v.Ask(ref(t, "app:v1")), v.Get("ns/a").Cache
	asked := resolving("a", "t2", nil)
	if v.Get("ns/a").Shows(asked) {
		t.Error("a token is no news")
	}
	v.Put(asked)
	if v.Ask(ref(t, "app:v1")) == before || v.Get("ns/a").Cache != compiled || v.Get("ns/a").before != nil {
		t.Error("a token does not change when nodes ask, or is taken for an edit")
	}
}

// TestATokenThatGoesIsNoNews: whatever becomes of one ImageCache, the tags that another one
// names are not asked for again, also by a controller that starts then.
func TestATokenThatGoesIsNoNews(t *testing.T) {
	t.Parallel()
	handled := func(name, token string, generation int64, edit func(*v1alpha1.ImageCacheSpec)) *v1alpha1.ImageCache {
		ic := resolving(name, token, edit)
		ic.Generation, ic.Status.LastHandledRefreshAt = generation, token
		return ic
	}
	state := func(s v1alpha1.CacheState) func(*v1alpha1.ImageCacheSpec) {
		return func(spec *v1alpha1.ImageCacheSpec) { spec.State = s }
	}
	names := func(image v1alpha1.ImageReference) func(*v1alpha1.ImageCacheSpec) {
		return func(s *v1alpha1.ImageCacheSpec) { s.CacheSpec[0].Images = []v1alpha1.ImageReference{image} }
	}
	tests := map[string]func(*View){
		"suspended": func(v *View) { v.Put(handled("b", "u", 2, state(v1alpha1.StateSuspended))) },
		"purged":    func(v *View) { v.Put(handled("b", "u", 2, state(v1alpha1.StatePurged))) },
		"refused":   func(v *View) { v.Judge(v.Get("ns/b"), Refusal{v1alpha1.ReasonNotAllowed, "too much"}) },
		"deleted":   func(v *View) { v.Delete("ns/b") },
		"edited":    func(v *View) { v.Put(handled("b", "u", 2, names("db:v1"))) },
		"resolved by the controller": func(v *View) {
			v.Put(handled("b", "u", 2, func(s *v1alpha1.ImageCacheSpec) { s.Resolve = v1alpha1.ResolveController }))
		},
	}
	app := ref(t, "app:v1")
	for name, goes := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := NewView(limits.Limits{})
			a, b := handled("a", "t", 1, nil), handled("b", "u", 1, nil)
			v.Put(a)
			v.Put(b)
			before := v.Ask(app)
			goes(v)
			if now := v.Ask(app); now != before {
				t.Errorf("asked again: %+v, before %+v", now, before)
			}
			started := NewView(limits.Limits{})
			started.Recall(map[string]map[string]int{app.String(): {before.Token: 2, "t": 1}})
			started.Put(a)
			if now := started.Ask(app); now != before {
				t.Errorf("asked again after a start: %+v, before %+v", now, before)
			}
			for which, v := range map[string]*View{"the same": v, "one that started": started} {
				v.Put(handled("b", "u", 3, nil))
				if now := v.Ask(app); now != before {
					t.Errorf("%s: asked again when all is as it was: %+v, before %+v", which, now, before)
				}
				v.Put(resolving("a", "t2", nil))
				if now := v.Ask(app); now == before {
					t.Errorf("%s: a refresh is not asked for", which)
				}
			}
		})
	}
}

// TestAsksOfAStart: a refresh that is under way when a controller starts goes on, also one
// that was asked for while there was none.
func TestAsksOfAStart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		handled  string
		recalled map[string]int
		want     string
	}{
		"nothing was sent":                    {"t", nil, "t"},
		"done":                                {"t", map[string]int{"t": 3, "s": 1}, "t"},
		"done, and other caches asked then":   {"t", map[string]int{"s": 2, "t": 1}, "s"},
		"done, as many have each":             {"t", map[string]int{"s": 2, "t": 2}, "t"},
		"under way":                           {"s", map[string]int{"s": 3, "t": 1}, "t"},
		"asked for while nobody was there":    {"s", map[string]int{"s": 3}, "t"},
		"the first, and nobody was told then": {"", map[string]int{"": 3}, "t"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := ref(t, "app:v1")
			v := NewView(limits.Limits{})
			v.Recall(map[string]map[string]int{app.String(): tc.recalled})
			ic := resolving("a", "t", nil)
			ic.Status.LastHandledRefreshAt = tc.handled
			v.Put(ic)
			if got := v.Ask(app); got.Token != tc.want {
				t.Errorf("token %q, want %q", got.Token, tc.want)
			}
		})
	}
}

func TestSite(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		labels    map[string]string
		site, own string
	}{
		"by label":  {map[string]string{"edgecache.dev/site": "lisbon", "topology.kubernetes.io/zone": "pt"}, "lisbon", "lisbon"},
		"by zone":   {map[string]string{"topology.kubernetes.io/zone": "pt"}, "pt", "pt"},
		"by itself": {nil, "", "node/n1"},
	} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: tc.labels}}
		if Site(n) != tc.site || OwnSite(n) != tc.own {
			t.Errorf("%s: site %q, own site %q", name, Site(n), OwnSite(n))
		}
	}
}
