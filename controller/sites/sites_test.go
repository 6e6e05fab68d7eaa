package sites

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

const app = "r.io/app:v1"

var d1, d2, d3 = digestOf('1'), digestOf('2'), digestOf('3')

// node is a node whose spec and status speak of one digest.
func node(name string, d digest.Digest, edits ...func(*v1alpha1.NodeImageCache)) *v1alpha1.NodeImageCache {
	o := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 7}}
	o.Spec.Images = []v1alpha1.NodeImage{{Name: app, Digest: d.String(), Resolve: v1alpha1.ResolveNode}}
	o.Status.ObservedGeneration = 7
	o.Status.Images = []v1alpha1.NodeImageStatus{{Name: app, Digest: d.String()}}
	for _, edit := range edits {
		edit(o)
	}
	return o
}

func token(s string) func(*v1alpha1.NodeImageCache) {
	return func(o *v1alpha1.NodeImageCache) { o.Spec.Images[0].RefreshToken = s }
}

func again(o *v1alpha1.NodeImageCache) {
	o.Spec.Images[0].ResolveEvery = &metav1.Duration{Duration: time.Hour}
}

func behind(o *v1alpha1.NodeImageCache) { o.Generation++ }

// found is a report: what the registry gave, for a token; newer where it was asked while
// the digest of the spec was wished.
func found(d digest.Digest, token string, newer bool) func(*v1alpha1.NodeImageCache) {
	return func(o *v1alpha1.NodeImageCache) {
		o.Status.Images[0].Resolved = &v1alpha1.ResolvedTag{Digest: d.String(), RefreshToken: token, Newer: newer}
	}
}

func TestDigestOfASite(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		start   []*v1alpha1.NodeImageCache // before Settle
		then    []*v1alpha1.NodeImageCache
		want    digest.Digest
		drifted bool
	}{
		"nobody knows": {start: []*v1alpha1.NodeImageCache{node("a", "")}, want: ""},
		"the first report": {
			start: []*v1alpha1.NodeImageCache{node("a", ""), node("b", "")},
			then:  []*v1alpha1.NodeImageCache{node("b", "", found(d2, "", false)), node("a", "", found(d1, "", false))},
			want:  d2,
		},
		"a second one that differs is drift": {
			start: []*v1alpha1.NodeImageCache{node("a", d1, found(d1, "", false)), node("b", d1, found(d2, "", false))}, want: d1, drifted: true,
		},
		"the specs are the record": {start: []*v1alpha1.NodeImageCache{node("a", d1), node("b", "", found(d2, "", false))}, want: d1},
		"the specs of most":        {start: []*v1alpha1.NodeImageCache{node("a", d1), node("b", d2), node("c", d2)}, want: d2},
		"of as many the smallest":  {start: []*v1alpha1.NodeImageCache{node("a", d2), node("b", d1)}, want: d1},
		"half written: the answer to the token": {
			start: []*v1alpha1.NodeImageCache{
				node("a", d2, token("t"), found(d2, "t", false)), node("b", d1, token("t")), node("c", d1, token("t"), found(d3, "t", true)),
			},
			want: d2,
		},
		"a newer answer to the token moves it": {
			start: []*v1alpha1.NodeImageCache{node("a", d1, token("t"), found(d2, "t", true)), node("b", d1, token("t"))}, want: d2,
		},
		"an answer to another token does not": {
			start: []*v1alpha1.NodeImageCache{node("a", d1, token("t2"), found(d2, "t1", true))}, want: d1, drifted: true,
		},
		"nor one of an agent that has not seen the spec": {
			start: []*v1alpha1.NodeImageCache{node("a", d1, token("t"), found(d2, "t", true), behind)}, want: d1,
		},
		"nor that of a node that joins later": {
			start: []*v1alpha1.NodeImageCache{node("a", d1, token("t"), found(d1, "t", false))},
			then:  []*v1alpha1.NodeImageCache{node("b", d1, token("t"), found(d2, "t", true))},
			want:  d1, drifted: true,
		},
		"a node that still has the last token does not hold back the answer to the next": {
			start: []*v1alpha1.NodeImageCache{node("a", d1, token("t1"), found(d1, "t1", false)), node("b", d1, token("t2"), found(d2, "t2", true))},
			want:  d2,
		},
		"what is asked for again and again moves": {
			start: []*v1alpha1.NodeImageCache{node("a", d1, again), node("b", d1, again, found(d2, "", true))}, want: d2,
		},
		"an old answer does not move it back": {
			start: []*v1alpha1.NodeImageCache{node("a", d2, again), node("b", d2, again, found(d1, "", false))}, want: d2, drifted: true,
		},
		"what nobody asked for does not move": {
			start: []*v1alpha1.NodeImageCache{node("a", d1, found(d2, "", true))}, want: d1, drifted: true,
		},
		"what is no digest is not heard": {start: []*v1alpha1.NodeImageCache{node("a", "", found("sha256:../x", "", false))}, want: ""},
		"who was not asked is not heard": {
			start: []*v1alpha1.NodeImageCache{node("a", "", found(d1, "", false), func(o *v1alpha1.NodeImageCache) { o.Spec.Images[0].Resolve = "" })}, want: "",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New()
			for _, o := range tc.start {
				if moved := s.Observe("lisbon", o, true); moved != nil {
					t.Errorf("decided %v before the end of the start", moved)
				}
			}
			s.Settle()
			for _, o := range tc.then {
				s.Observe("lisbon", o, true)
			}
			if got, drifted := s.Digest("lisbon", ref(app)); got != tc.want || drifted != tc.drifted {
				t.Errorf("digest %s, drifted %v, want %s, %v", got, drifted, tc.want, tc.drifted)
			}
		})
	}
}

func TestSitesAreApart(t *testing.T) {
	t.Parallel()
	s := New()
	s.Settle()
	s.Observe("lisbon", node("a", ""), true)
	s.Observe("porto", node("b", "", found(d2, "", false)), true)
	moved := s.Observe("lisbon", node("c", "", found(d1, "", false)), true)
	if diff := cmp.Diff([]Move{{Key{"lisbon", app}, []string{"a", "c"}}}, moved); diff != "" {
		t.Errorf("moved (-want +got):\n%s", diff)
	}
	expect := func(site string, want digest.Digest) {
		t.Helper()
		if got, _ := s.Digest(site, ref(app)); got != want {
			t.Errorf("%s has %s, want %s", site, got, want)
		}
	}
	expect("lisbon", d1)
	expect("porto", d2)

	s.Observe("porto", node("c", d1), true) // its label changed
	expect("porto", d2)
	expect("lisbon", d1)
	s.Forget("a")
	expect("lisbon", "")
	s.Observe("porto", &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, true)
	s.Forget("c")
	if len(s.places) != 0 || len(s.known) != 0 {
		t.Errorf("forgotten nodes leave %v, %v", s.places, s.known)
	}
}

// TestAlwaysOneDigest plays a site whose controller and agents do their work in any order,
// with a tag that moves, tokens, and a controller that is killed: once all is quiet every
// node has the digest that the registry has, and nothing moves any more.
func TestAlwaysOneDigest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		g := newGame(rand.New(rand.NewPCG(seed, 5)))
		for range 60 {
			g.step()
		}
		g.quiet()
		g.ask("last") // in answer to which all agree, whatever was before
		g.quiet()
		got, drifted := g.sites.Digest("lisbon", ref(app))
		if got != g.registry || drifted {
			t.Fatalf("seed %d: the site has %s (drifted %v), the registry %s", seed, got, drifted, g.registry)
		}
		for _, o := range g.nodes {
			if o.Spec.Images[0].Digest != got.String() {
				t.Fatalf("seed %d: %s has %s, want %s", seed, o.Name, o.Spec.Images[0].Digest, got)
			}
		}
	}
}

// TestNobodyAskedForIt: nodes of a site are replaced one by one, and agents lose their
// stores, while the tag has moved and a token stands in the specs. The site stays as it is.
func TestNobodyAskedForIt(t *testing.T) {
	t.Parallel()
	g := newGame(rand.New(rand.NewPCG(1, 1)))
	g.ask("t")
	g.quiet()
	g.registry = d2
	for i, old := range slices.Clone(g.nodes) {
		old.Status.Images[0].Resolved = nil
		g.quiet()
		g.sites.Forget(old.Name)
		g.nodes[i] = node(fmt.Sprintf("new%d", i), d1, token("t"))
		g.quiet()
	}
	if got, drifted := g.sites.Digest("lisbon", ref(app)); got != d1 || drifted {
		t.Errorf("the site has %s (drifted %v), want %s", got, drifted, d1)
	}
	g.ask("u")
	g.quiet()
	if got, _ := g.sites.Digest("lisbon", ref(app)); got != d2 {
		t.Errorf("after a refresh the site has %s, want %s", got, d2)
	}
}

// game is a site in a model: agents that follow the rules of edgeagent/plan.
type game struct {
	rng      *rand.Rand
	sites    *Sites
	nodes    []*v1alpha1.NodeImageCache
	token    string
	registry digest.Digest
}

func newGame(rng *rand.Rand) *game {
	g := &game{rng: rng, sites: New(), registry: d1}
	g.sites.Settle()
	for i := range 4 {
		g.nodes = append(g.nodes, node(fmt.Sprintf("n%d", i), ""))
	}
	return g
}

func (g *game) step() {
	o := g.nodes[g.rng.IntN(len(g.nodes))]
	switch g.rng.IntN(7) {
	case 0:
		g.registry = []digest.Digest{d1, d2, d3}[g.rng.IntN(3)]
	case 1:
		g.ask(fmt.Sprintf("t%d", g.rng.IntN(1000)))
	case 2:
		g.sites = New() // a controller that was killed
		for _, o := range g.nodes {
			g.sites.Observe("lisbon", o, true)
		}
		g.sites.Settle()
	case 3:
		g.write(o)
	case 4:
		o.Status.Images[0].Resolved = nil // an agent that lost its store
	default:
		g.agent(o)
	}
}

func (g *game) ask(token string) { g.token = token }

// write is the controller working on one node.
func (g *game) write(o *v1alpha1.NodeImageCache) (did bool) {
	g.sites.Observe("lisbon", o, true)
	d, _ := g.sites.Digest("lisbon", ref(app))
	img := &o.Spec.Images[0]
	if d == "" || img.Digest == d.String() && img.RefreshToken == g.token {
		return false
	}
	img.Digest, img.RefreshToken = d.String(), g.token
	o.Generation++
	return true
}

// agent is a node's agent seeing its spec and asking what it has to.
func (g *game) agent(o *v1alpha1.NodeImageCache) (did bool) {
	img, st := &o.Spec.Images[0], &o.Status.Images[0]
	did = o.Status.ObservedGeneration != o.Generation
	o.Status.ObservedGeneration = o.Generation
	if said := st.Resolved; said != nil && st.Digest != img.Digest {
		aged := *said
		aged.Newer = false
		if st.Digest != "" && said.Digest != img.Digest {
			aged.Digest = ""
		}
		st.Resolved = &aged
	}
	st.Digest = img.Digest
	if st.Resolved == nil && img.Digest != "" {
		st.Resolved, did = &v1alpha1.ResolvedTag{RefreshToken: img.RefreshToken}, true
	}
	if said := st.Resolved; said == nil || said.RefreshToken != img.RefreshToken || said.Digest == "" && img.Digest == "" {
		st.Resolved = &v1alpha1.ResolvedTag{
			Digest: g.registry.String(), RefreshToken: img.RefreshToken, Newer: img.Digest != "" && img.Digest != g.registry.String(),
		}
		did = true
	}
	g.sites.Observe("lisbon", o, true)
	return did
}

// quiet lets everybody work until nobody has anything to do.
func (g *game) quiet() {
	for round := 0; ; round++ {
		if round > 20 {
			panic("does not come to an end")
		}
		did := slices.ContainsFunc(g.nodes, g.agent)
		did = slices.ContainsFunc(g.nodes, g.write) || did
		if !did {
			return
		}
	}
}

func digestOf(c byte) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(string(c), 64)) }

func ref(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

// TestARestartGoesOn: a rollout has moved the nodes that are ready, and let the dark ones not
// in. Most specs have the old digest.
func TestARestartGoesOn(t *testing.T) {
	t.Parallel()
	s := New()
	for _, dark := range []string{"d1", "d2", "d3"} {
		s.Observe("lisbon", node(dark, d1, again, found(d1, "", false)), false)
	}
	for _, ready := range []string{"n1", "n2"} {
		s.Observe("lisbon", node(ready, d2, again, found(d2, "", false)), true)
	}
	s.Settle()
	if got, _ := s.Digest("lisbon", ref(app)); got != d2 {
		t.Errorf("after a restart the site is back at %s", got)
	}
}
