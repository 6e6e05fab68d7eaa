package placement

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPlansAreTheSeeds: a seed gives the same plan again, and another seed another one.
func TestPlansAreTheSeeds(t *testing.T) {
	t.Parallel()
	all := cmp.AllowUnexported(plan{}, site{}, node{}, image{}, layer{}, arrival{}, rollout{})
	for _, s := range scenarios() {
		first := newPlan(s, 7)
		// Plans name images by pointer; what they stand for is compared.
		if diff := cmp.Diff(first.nodes, newPlan(s, 7).nodes, all); diff != "" {
			t.Errorf("scenario %s is another one for the same seed (-first +second):\n%s", s.name, diff)
		}
		if cmp.Equal(first.nodes, newPlan(s, 8).nodes, all) {
			t.Errorf("scenario %s is the same for two seeds", s.name)
		}
	}
}

// TestPodsHaveRoom: whatever the seed, all pods of a plan fit on its nodes at a time, beside what is there.
func TestPodsHaveRoom(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		for seed := range uint64(50) {
			p := newPlan(s, seed)
			room, pods := 0, len(p.arrivals)
			taken := map[int]int64{}
			for _, r := range p.rollouts {
				pods += r.replicas
				for _, n := range r.old {
					taken[n] += podMilliCPU
				}
			}
			for i, n := range p.nodes {
				free := n.milliCPU - n.ballast - taken[i]
				if free < 0 {
					t.Fatalf("scenario %s, seed %d: node %s is overbooked by %d m", s.name, seed, n.name, -free)
				}
				room += int(free / podMilliCPU)
			}
			if room < pods {
				t.Errorf("scenario %s, seed %d: room for %d of %d pods", s.name, seed, room, pods)
			}
		}
	}
}

// TestNewVersionsKeepMostLayers is what the scenario rollout is about, and that nobody holds them yet.
func TestNewVersionsKeepMostLayers(t *testing.T) {
	t.Parallel()
	p := newPlan(scenarios()[slices.IndexFunc(scenarios(), func(s scenario) bool { return s.name == "rollout" })], 3)
	to := p.rollouts[0].to
	for _, n := range p.nodes {
		if slices.Contains(n.holds, to) {
			t.Errorf("node %s holds the new version", n.name)
		}
	}
	e := newPulls(p)
	e.want(p.rollouts[0].old[0], to, "one")
	if share := e.bytes / float64(to.bytes(amd64)); share <= 0 || share > 0.35 {
		t.Errorf("a node with the old version lacks %.0f %% of the new one, want at most 35 %%", 100*share)
	}
}
