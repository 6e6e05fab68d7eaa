package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/limits"
)

// fleetOf reads nodes in words: "site/letters", one letter per node: w waiting, b waiting
// and busy, k working, f failed, d done; in upper case not connected.
func fleetOf(words string) []Node {
	var nodes []Node
	for word := range strings.FieldsSeq(words) {
		site, letters, _ := strings.Cut(word, "/")
		for i, letter := range letters {
			low := strings.ToLower(string(letter))
			nodes = append(nodes, Node{
				Name: fmt.Sprintf("%s%d", site, i), Site: strings.TrimPrefix(site, "-"),
				Connected: low == string(letter), Progress: Progress(max(0, strings.Index("wkfd", low))), Busy: low == "b",
			})
		}
	}
	return nodes
}

func TestDecide(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fleet  string
		limits Limits
		want   Decision
	}{
		"one of each site first":                           {"a/www b/ww", Limits{10, 100}, Decision{LetIn: []string{"a0", "b0"}, Waits: 3}},
		"the limit holds for the first ones too":           {"a/w b/w c/w", Limits{2, 100}, Decision{LetIn: []string{"a0", "b0"}, Waits: 1}},
		"a site follows its first node":                    {"a/dww b/kw", Limits{10, 100}, Decision{LetIn: []string{"a1", "a2"}, Waits: 1, Tried: 2}},
		"a site follows a node that failed":                {"a/fw b/d", Limits{10, 100}, Decision{LetIn: []string{"a1"}, Tried: 2, Failed: 1}},
		"sites that have none go before others":            {"a/dw b/w", Limits{1, 100}, Decision{LetIn: []string{"b0"}, Waits: 1, Tried: 1}},
		"working nodes hold places":                        {"a/dkkww", Limits{3, 100}, Decision{LetIn: []string{"a3"}, Waits: 1, Tried: 3}},
		"failed nodes hold none":                           {"a/dffww", Limits{1, 100}, Decision{LetIn: []string{"a3"}, Waits: 1, Tried: 3, Failed: 2}},
		"nodes out of reach hold none and are not let in":  {"a/dKFWw", Limits{1, 0}, Decision{LetIn: []string{"a4"}, Tried: 1}},
		"a first node that went dark is replaced":          {"a/Kww", Limits{1, 100}, Decision{LetIn: []string{"a1"}, Waits: 1}},
		"nodes without a site do not wait for one another": {"-/www", Limits{2, 100}, Decision{LetIn: []string{"-0", "-1"}, Waits: 1}},
		"as many failures as allowed":                      {"a/dfw", Limits{9, 50}, Decision{LetIn: []string{"a2"}, Tried: 2, Failed: 1}},
		"one more stops":                                   {"a/dffw", Limits{9, 50}, Decision{Waits: 1, Tried: 3, Failed: 2, Stopped: true}},
		"nobody waits: nothing to stop":                    {"a/ff", Limits{9, 0}, Decision{Tried: 2, Failed: 2}},
		"none over the limit when it was lowered":          {"a/dkkkw", Limits{1, 100}, Decision{Waits: 1, Tried: 4}},
		"busy nodes hold places":                           {"a/dwwbb", Limits{3, 100}, Decision{LetIn: []string{"a3", "a4", "a1"}, Waits: 1, Tried: 1}},
		"busy nodes are let in where no place is free":     {"a/dwbbb", Limits{2, 100}, Decision{LetIn: []string{"a2", "a3", "a4"}, Waits: 1, Tried: 1}},
		"a busy node goes first of its site":               {"a/wb b/ww", Limits{2, 100}, Decision{LetIn: []string{"a1", "b0"}, Waits: 2}},
		"busy nodes of a site wait for its first one":      {"a/kbw b/w", Limits{2, 100}, Decision{Waits: 3, Tried: 1}},
		"a busy node out of reach holds no place":          {"a/dBw", Limits{1, 100}, Decision{LetIn: []string{"a2"}, Tried: 1}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := fleetOf(tc.fleet)
			if diff := cmp.Diff(tc.want, Decide(nodes, tc.limits), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEveryNodeGetsItsTurn: whatever the limits, a fleet whose nodes finish ends up done,
// never with more than the limit working.
func TestEveryNodeGetsItsTurn(t *testing.T) {
	t.Parallel()
	for _, concurrent := range []int{1, 2, 7, 100} {
		nodes := fleetOf("a/wwwww b/www c/w -/wwww d/WW")
		left := func() int {
			return len(slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.Progress == Done || !n.Connected }))
		}
		for round := 0; left() > 0; round++ {
			if round > 50 {
				t.Fatalf("%d at a time: %d nodes never get their turn", concurrent, left())
			}
			d := Decide(nodes, Limits{concurrent, 100})
			if len(d.LetIn) > concurrent {
				t.Fatalf("%d at a time: %d let in", concurrent, len(d.LetIn))
			}
			for i := range nodes {
				if slices.Contains(d.LetIn, nodes[i].Name) {
					nodes[i].Progress = Done
				}
			}
		}
	}
}

func TestLimitsOf(t *testing.T) {
	t.Parallel()
	number, share, bad := intstr.FromInt32(7), intstr.FromString("10%"), intstr.FromString("?")
	tests := map[string]struct {
		spec v1alpha1.Rollout
		want Limits
	}{
		"nothing":    {v1alpha1.Rollout{}, Limits{25, 100}},
		"a number":   {v1alpha1.Rollout{MaxConcurrentNodes: &number, MaxFailurePercent: new(int32(0))}, Limits{7, 0}},
		"a share":    {v1alpha1.Rollout{MaxConcurrentNodes: &share}, Limits{3, 100}},
		"unreadable": {v1alpha1.Rollout{MaxConcurrentNodes: &bad}, Limits{25, 100}},
	}
	for name, tc := range tests {
		if got := LimitsOf(&tc.spec, 25); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
	if got := LimitsOf(&v1alpha1.Rollout{MaxConcurrentNodes: &share}, 0); got.Concurrent != 1 {
		t.Errorf("10%% of no nodes: %d, want 1", got.Concurrent)
	}
}

func TestGates(t *testing.T) {
	t.Parallel()
	view := fleet.NewView(limits.Limits{})
	ic := &v1alpha1.ImageCache{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "u", Generation: 1}}
	ic.Spec.CacheSpec = []v1alpha1.CacheSpecImages{{Images: []v1alpha1.ImageReference{"r.io/app:v1"}}}
	view.Put(ic)
	app, err := imageref.Parse("r.io/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	d1, d2 := digest.FromString("1"), digest.FromString("2")
	g := &Gates{View: view}
	if g.Holds("ns/a", "n1", "lisbon", app, d1) || g.Holds("ns/gone", "n1", "lisbon", app, d1) {
		t.Error("who has no rollout holds")
	}
	ic = ic.DeepCopy()
	ic.Generation, ic.Spec.Rollout = 2, &v1alpha1.Rollout{}
	view.Put(ic)
	if !g.Holds("ns/a", "n1", "lisbon", app, d1) {
		t.Error("a node is in before anybody decided")
	}
	g.Let("ns/a", Targets{{Ref: app}: d1}, []string{"n1"})
	g.Let("ns/a", Targets{{Ref: app}: d1}, []string{"n2"})
	if g.Holds("ns/a", "n1", "lisbon", app, d1) || g.Holds("ns/a", "n2", "lisbon", app, d1) || !g.Holds("ns/a", "n3", "lisbon", app, d1) || g.Of("ns/a").Targets.Of(app, "") != d1 {
		t.Error("n1 and n2 are let in, n3 is not")
	}
	if !g.Holds("ns/a", "n1", "lisbon", app, d2) || g.Of("ns/a").LetIn("n3") {
		t.Error("let in to one digest is let in to the next")
	}
	g.Let("ns/a", Targets{{Ref: app}: d2}, []string{"n3"})
	if !g.Holds("ns/a", "n1", "lisbon", app, d2) || g.Holds("ns/a", "n3", "lisbon", app, d2) {
		t.Error("a new change begins with those let in to the old one")
	}
	g.Let("ns/a", Targets{{Ref: app, Site: "lisbon"}: d1, {Ref: app, Site: "porto"}: d2}, []string{"n1"})
	if g.Holds("ns/a", "n1", "lisbon", app, d1) || !g.Holds("ns/a", "n1", "porto", app, d1) {
		t.Error("a node is let in to another digest than that of its site")
	}
	g.Forget("ns/a")
	if !g.Holds("ns/a", "n3", "lisbon", app, d2) {
		t.Error("forgotten and still in")
	}
}
