package placement

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// made is a plan of one site, whose nodes have all the same speeds and hold what is given.
func made(uplink, speed float64, holds ...[]*image) *plan {
	p := &plan{seed: 1, sites: []*site{{name: "here", uplink: uplink}}}
	for _, held := range holds {
		p.nodes = append(p.nodes, &node{arch: amd64, speed: speed, unpack: 10 * megabyte, holds: held})
	}
	return p
}

// ofLayers is an image of layers with the given names, of 10 MB each.
func ofLayers(name string, layers ...string) *image {
	i := &image{repository: registryHost + "/" + name, tag: "v1", digest: mint(1, name), layers: map[string][]layer{}}
	for _, l := range layers {
		i.layers[amd64] = append(i.layers[amd64], layer{mint(1, l), 10 * megabyte})
	}
	return i
}

// drain gives the time at which each pod's image is there, in seconds.
func drain(t *testing.T, e *pulls) map[string]float64 {
	t.Helper()
	at := map[string]float64{}
	for range 1000 {
		next := e.next()
		if math.IsInf(next, 1) {
			return at
		}
		for _, p := range e.advance(next) {
			for _, pod := range p.pods {
				at[pod] = e.now
			}
		}
	}
	t.Fatal("the pulls do not end")
	return nil
}

func near(got, want float64) bool { return math.Abs(got-want) < 0.01 }

func TestUplinkIsShared(t *testing.T) {
	t.Parallel()
	app := ofLayers("app", "a", "b")
	e := newPulls(made(2*megabyte, 1e12, nil, nil))
	e.want(0, app, "one")
	e.want(1, app, "two")
	at := drain(t, e)
	// 40 MB at 2 MB/s for both, then a second, and 20 MB at 10 MB/s to unpack.
	if !near(at["one"], 23) || !near(at["two"], 23) || e.bytes != 40*megabyte {
		t.Errorf("ready at %v after %.0f bytes, want both at 23 s after 40 MB", at, e.bytes)
	}
}

func TestSlowNodeLeavesTheOthersMore(t *testing.T) {
	t.Parallel()
	p := made(10*megabyte, 1e12, nil, nil)
	e := newPulls(p)
	e.state[0].queue = []*pull{{node: 0, left: 1, limit: megabyte}}
	e.state[1].queue = []*pull{{node: 1, left: 1, limit: 1e12}}
	e.share()
	if slow, quick := e.state[0].queue[0].rate, e.state[1].queue[0].rate; slow != megabyte || quick != 9*megabyte {
		t.Errorf("rates are %.0f and %.0f, want 1 MB/s and the 9 MB/s that are left", slow, quick)
	}
}

func TestLayersComeOnce(t *testing.T) {
	t.Parallel()
	old, app := ofLayers("old", "base", "x"), ofLayers("app", "base", "y")
	e := newPulls(made(megabyte, 1e12, []*image{old}))
	if e.want(0, old, "held") {
		t.Error("an image that is held is pulled")
	}
	e.want(0, app, "one")
	e.want(0, app, "two")
	at := drain(t, e)
	if !near(at["one"], 12) || !near(at["two"], 12) || e.bytes != 10*megabyte {
		t.Errorf("ready at %v after %.0f bytes, want both at 12 s after 10 MB: the base is there", at, e.bytes)
	}
	if e.want(0, app, "three") {
		t.Error("an image that was pulled is pulled again")
	}
}

func TestNodePullsOneAtATime(t *testing.T) {
	t.Parallel()
	e := newPulls(made(megabyte, 1e12, nil))
	e.want(0, ofLayers("app", "base", "x"), "one")
	e.want(0, ofLayers("next", "base", "y"), "two")
	at := drain(t, e)
	// 20 s and 3 s; then 10 s and 2 s, as the base is there by then.
	if !near(at["one"], 23) || !near(at["two"], 35) {
		t.Errorf("ready at %v, want 23 s and 35 s", at)
	}
}

func TestNothingComesWithoutARegistry(t *testing.T) {
	t.Parallel()
	p := made(megabyte, 1e12, nil)
	p.sites[0].noRegistry = 100
	e := newPulls(p)
	e.want(0, ofLayers("app", "x"), "one")
	if at := drain(t, e); !near(at["one"], 112) {
		t.Errorf("ready at %v, want 112 s: after the registry is back", at)
	}
}

// TestBytesAreConserved: whatever arrives when, each node downloads each layer once.
func TestBytesAreConserved(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		e := newPulls(made(megabyte, 2*megabyte, nil, nil, nil))
		for k := range 12 {
			layers := []string{"base", string(rune('a' + rng.IntN(5))), string(rune('a' + rng.IntN(5)))}
			slices.Sort(layers)
			layers = slices.Compact(layers)
			e.want(rng.IntN(3), ofLayers(layers[0]+layers[len(layers)-1], layers...), string(rune('0'+k)))
			e.advance(min(e.next(), e.now+rng.Float64()*30))
		}
		drain(t, e)
		held := 0
		for _, m := range e.state {
			held += len(m.layers)
		}
		if e.bytes != float64(held*10*megabyte) {
			t.Fatalf("%.0f bytes came for %d layers of 10 MB", e.bytes, held)
		}
	}
}
