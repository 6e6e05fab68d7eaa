package caches

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/resolution"
	"edgecache.dev/controller/rollout"
	"edgecache.dev/controller/sites"
)

const tag = "r.io/app:v1"

// asked is the object of a node that resolves the tag: spec and status speak of a digest.
func asked(d digest.Digest, phase v1alpha1.ImagePhase, edits ...func(*v1alpha1.NodeImage, *v1alpha1.NodeImageStatus)) *v1alpha1.NodeImageCache {
	o := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Generation: 1}, Status: v1alpha1.NodeImageCacheStatus{ObservedGeneration: 1}}
	img := v1alpha1.NodeImage{Name: tag, Digest: d.String(), Resolve: v1alpha1.ResolveNode}
	st := v1alpha1.NodeImageStatus{Name: tag, Digest: d.String(), Phase: phase}
	for _, edit := range edits {
		edit(&img, &st)
	}
	o.Spec.Images, o.Status.Images = []v1alpha1.NodeImage{img}, []v1alpha1.NodeImageStatus{st}
	return o
}

func tokens(spec string, said *v1alpha1.ResolvedTag) func(*v1alpha1.NodeImage, *v1alpha1.NodeImageStatus) {
	return func(i *v1alpha1.NodeImage, s *v1alpha1.NodeImageStatus) { i.RefreshToken, s.Resolved = spec, said }
}

func found(d digest.Digest) func(*v1alpha1.NodeImage, *v1alpha1.NodeImageStatus) {
	return tokens("", &v1alpha1.ResolvedTag{Digest: d.String()})
}

// TestSites: nodes are judged by their own sites' digests, which the status sums up.
func TestSites(t *testing.T) {
	t.Parallel()
	byFleet := func(i *v1alpha1.NodeImage, _ *v1alpha1.NodeImageStatus) { i.Resolve = "" }
	tests := map[string]struct {
		nodes  map[string][]*v1alpha1.NodeImageCache // by site
		counts v1alpha1.NodeCounts
		digest digest.Digest
		sites  v1alpha1.ImageSites
		want   string // Ready FullyCached Reconciling
	}{
		"all agree": {
			nodes: map[string][]*v1alpha1.NodeImageCache{
				"lisbon": {asked(d1, v1alpha1.PhaseCached)}, "porto": {asked(d1, v1alpha1.PhaseCached), asked(d1, v1alpha1.PhaseCached)},
			},
			counts: v1alpha1.NodeCounts{Selected: 3, Ready: 3}, digest: d1, sites: v1alpha1.ImageSites{Sites: 2, Resolved: 2, Digests: 1},
			want: "True/AllCached True/AllCached -",
		},
		"each its own": {
			nodes: map[string][]*v1alpha1.NodeImageCache{
				"lisbon": {asked(d1, v1alpha1.PhaseCached)}, "porto": {asked(d2, v1alpha1.PhaseCached)},
			},
			counts: v1alpha1.NodeCounts{Selected: 2, Ready: 2}, sites: v1alpha1.ImageSites{Sites: 2, Resolved: 2, Digests: 2},
			want: "True/AllCached True/AllCached -",
		},
		"a site is not asked yet": {
			nodes: map[string][]*v1alpha1.NodeImageCache{
				"lisbon": {asked(d1, v1alpha1.PhaseCached)}, "porto": {asked("", v1alpha1.PhasePending)},
			},
			counts: v1alpha1.NodeCounts{Selected: 2, Ready: 1, Updating: 1}, sites: v1alpha1.ImageSites{Sites: 2, Resolved: 1, Digests: 1},
			want: "False/Progressing False/Progressing Progressing",
		},
		"a site's registry does not answer": {
			nodes: map[string][]*v1alpha1.NodeImageCache{
				"lisbon": {asked(d1, v1alpha1.PhaseCached)}, "porto": {asked("", v1alpha1.PhaseFailed)},
			},
			counts: v1alpha1.NodeCounts{Selected: 2, Ready: 1, Failed: 1}, sites: v1alpha1.ImageSites{Sites: 2, Resolved: 1, Digests: 1},
			want: "False/ImagesFailing False/Progressing ImagesFailing",
		},
		"a node failed to look up what another has found": {
			nodes:  map[string][]*v1alpha1.NodeImageCache{"lisbon": {asked("", v1alpha1.PhasePending, found(d1)), asked("", v1alpha1.PhaseFailed)}},
			counts: v1alpha1.NodeCounts{Selected: 2, Updating: 2}, digest: d1, sites: v1alpha1.ImageSites{Sites: 1, Resolved: 1, Digests: 1},
			want: "False/Progressing False/Progressing Progressing",
		},
		"drift within a site": {
			nodes: map[string][]*v1alpha1.NodeImageCache{"lisbon": {
				asked(d1, v1alpha1.PhaseCached, found(d1)), asked(d1, v1alpha1.PhaseCached), asked(d1, v1alpha1.PhaseCached, found(d2)),
			}},
			counts: v1alpha1.NodeCounts{Selected: 3, Ready: 3}, digest: d1, sites: v1alpha1.ImageSites{Sites: 1, Resolved: 1, Digests: 1, Drifted: 1},
			want: "True/AllCached True/AllCached -",
		},
		"the digest of the fleet where somebody asks for that": {
			nodes: map[string][]*v1alpha1.NodeImageCache{"lisbon": {
				asked(d1, v1alpha1.PhaseCached), asked(d2, v1alpha1.PhaseCached, byFleet), asked(d1, v1alpha1.PhaseCached, byFleet),
			}},
			counts: v1alpha1.NodeCounts{Selected: 3, Ready: 2, Updating: 1}, digest: d1, sites: v1alpha1.ImageSites{Sites: 1, Resolved: 1, Digests: 1},
			want: "False/Progressing False/Progressing Progressing",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := factsOfSites(t, tc.nodes).status()
			if diff := cmp.Diff(v1alpha1.ImageStatus{Name: tag, Digest: tc.digest.String(), Sites: &tc.sites, Nodes: tc.counts}, s.Images[0]); diff != "" {
				t.Errorf("image (-want +got):\n%s", diff)
			}
			if got := conditions(s); got != tc.want {
				t.Errorf("Ready FullyCached Reconciling = %q, want %q", got, tc.want)
			}
		})
	}
}

// factsOfSites are those of an ImageCache that has nodes resolve one tag; another one has
// the fleet's digest, d2, for it.
func factsOfSites(t *testing.T, nodes map[string][]*v1alpha1.NodeImageCache) *facts {
	t.Helper()
	ref := mustParse(tag)
	r := &Reconciler{Sites: sites.New(), Table: resolution.NewTable()}
	r.Table.Take(resolution.Interest{
		Owner: "ns/fleet", Images: []imageref.Reference{ref}, Again: func(imageref.Reference) bool { return false },
		Known: []v1alpha1.ImageStatus{{Name: tag, Digest: d2.String(), Check: check(v1alpha1.VerdictPullable, "")}},
	})
	f := &facts{ic: &v1alpha1.ImageCache{}, images: []image{{name: tag, ref: ref, byNode: true}}}
	var members []member
	for site, objects := range nodes {
		for _, o := range objects {
			o.Name = string(rune('a' + len(members)))
			r.Sites.Observe(site, o, true)
			members = append(members, member{name: o.Name, site: site, reach: fleet.Connected, object: o})
		}
	}
	r.Sites.Settle()
	f.tally.aims = aims{byNode: true, fleet: r.Table.Target, site: r.Sites.Digest}
	for _, m := range members {
		m.images = f.tally.lists([][]imageref.Reference{{ref}}, m.site)[0]
		f.tally.count(m, holding)
		f.tally.place(&m, nil)
	}
	r.sumUpSites(f)
	return f
}

// TestAStartIsNoRefresh: the token that nodes have was made of two caches' tokens, one of
// which is gone.
func TestAStartIsNoRefresh(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	s.join(1, func(o *v1alpha1.NodeImageCache) {
		o.Spec.Images = []v1alpha1.NodeImage{{Name: tag, Digest: d1.String(), Resolve: v1alpha1.ResolveNode, RefreshToken: "of two"}}
	})
	ic := resolved("a", tag)
	ic.Spec.Resolve = v1alpha1.ResolveNode
	ic.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "t"}
	ic.Status.LastHandledRefreshAt = "t"
	s.create(ic)
	if err := s.Prime(); err != nil {
		t.Fatal(err)
	}
	if got := s.View.Ask(mustParse(tag)); got.Token != "of two" {
		t.Errorf("token %q, want the one that nodes have", got.Token)
	}
}

func TestOwes(t *testing.T) {
	t.Parallel()
	behind := asked(d1, v1alpha1.PhaseCached, tokens("t", &v1alpha1.ResolvedTag{RefreshToken: "s", Reason: "NetworkError"}))
	behind.Generation++
	tests := map[string]struct {
		object *v1alpha1.NodeImageCache
		want   bool
	}{
		"no object":                 {nil, false},
		"no place for the image":    {&v1alpha1.NodeImageCache{}, false},
		"not told yet":              {asked(d1, v1alpha1.PhaseCached), true},
		"not answered":              {asked(d1, v1alpha1.PhaseCached, tokens("t", nil)), true},
		"answered the one before":   {asked(d1, v1alpha1.PhaseCached, tokens("t", &v1alpha1.ResolvedTag{RefreshToken: "s"})), true},
		"answered":                  {asked(d1, v1alpha1.PhaseCached, tokens("t", &v1alpha1.ResolvedTag{RefreshToken: "t"})), false},
		"could not, and says so":    {asked(d1, v1alpha1.PhaseCached, tokens("t", &v1alpha1.ResolvedTag{Reason: "NetworkError"})), false},
		"failed before the token":   {asked("", v1alpha1.PhaseFailed, tokens("t", nil)), true},
		"failed to find the first":  {asked("", v1alpha1.PhaseFailed, tokens("t", &v1alpha1.ResolvedTag{Reason: "NetworkError"})), false},
		"has not seen the spec yet": {behind, true},
		"has the fleet's digest":    {asked(d1, v1alpha1.PhaseCached, func(i *v1alpha1.NodeImage, _ *v1alpha1.NodeImageStatus) { i.Resolve = "" }), false},
	}
	for name, tc := range tests {
		m := member{object: tc.object}
		if got := m.owes(tag, "t"); got != tc.want {
			t.Errorf("%s: owes %v, want %v", name, got, tc.want)
		}
	}
}

func TestToldItsSitesDigest(t *testing.T) {
	t.Parallel()
	ref := mustParse(tag)
	bySite := aims{byNode: true, fleet: func(imageref.Reference) digest.Digest { return "" }, site: func(site string, _ imageref.Reference) (digest.Digest, bool) {
		return map[string]digest.Digest{"lisbon": d1, "porto": d2}[site], false
	}}
	ofFleet := func(d digest.Digest) aims {
		return aims{fleet: func(imageref.Reference) digest.Digest { return d }, next: rollout.Targets{{Ref: ref}: d}}
	}
	byFleet := func(i *v1alpha1.NodeImage, _ *v1alpha1.NodeImageStatus) { i.Resolve = "" }
	tests := map[string]struct {
		object *v1alpha1.NodeImageCache
		site   string
		aims   aims
		want   bool
	}{
		"its site's":                     {asked(d1, v1alpha1.PhaseCached), "lisbon", bySite, true},
		"another site's":                 {asked(d1, v1alpha1.PhaseCached), "porto", bySite, false},
		"its site has none":              {asked("", v1alpha1.PhasePending), "faro", bySite, true},
		"the fleet's, for another cache": {asked(d1, v1alpha1.PhaseCached, byFleet), "porto", bySite, true},
		"the fleet's":                    {asked(d1, v1alpha1.PhaseCached, byFleet), "porto", ofFleet(d1), true},
		"not the fleet's":                {asked(d1, v1alpha1.PhaseCached, byFleet), "porto", ofFleet(d2), false},
	}
	for name, tc := range tests {
		m := member{object: tc.object, site: tc.site, images: []*subject{tc.aims.subject(ref, tc.site)}}
		if got := m.told(func(s *subject) string { return s.next }); got != tc.want {
			t.Errorf("%s: told %v, want %v", name, got, tc.want)
		}
	}
}

func TestPullableOfNodesThatResolve(t *testing.T) {
	t.Parallel()
	f := facts{ic: &v1alpha1.ImageCache{}, images: []image{{name: tag, byNode: true}}}
	if v := f.pullable(); v.status != metav1.ConditionUnknown || v.reason != v1alpha1.ReasonNotChecked || v.message == "" {
		t.Errorf("pullable: %+v", v)
	}
	f.images = append(f.images, image{name: "R", check: check(v1alpha1.VerdictNotPullable, v1alpha1.ReasonInvalidReference)})
	if v := f.pullable(); v.reason != v1alpha1.ReasonNotPullable {
		t.Errorf("a reference that does not parse: %+v", v)
	}
	if got := f.unresolvedReason(); got != v1alpha1.ReasonInvalidReference {
		t.Errorf("unresolved: %q", got)
	}
}
