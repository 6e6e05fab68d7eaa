package placement

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

const (
	// handshake is what each pull takes before the first byte, in seconds.
	handshake = 1.0
	// pullNoise is how much the speed of a pull differs from that of its node.
	pullNoise = 0.2
)

// pulls plays what the nodes' runtimes do. A node pulls one image at a time, as kubelets do by default, and fetches the
// layers that it lacks. Nodes of a site share the uplink evenly, each up to its own speed. Then the layers are unpacked.
type pulls struct {
	sites []*site
	nodes []*node
	state []machine
	now   float64 // seconds
	bytes float64 // that came over uplinks
}

// machine is what a node holds and what it waits for; the first of the queue is under way.
type machine struct {
	layers map[string]bool
	images map[*image]bool
	queue  []*pull
	rng    *rand.Rand
}

// pull is one image on its way to one node.
type pull struct {
	node    int
	image   *image
	pods    []string
	missing []layer
	left    float64 // bytes
	limit   float64 // what the node takes at most, bytes per second
	rate    float64 // bytes per second at this moment
	rest    float64 // seconds that it takes besides the bytes
}

func newPulls(p *plan) *pulls {
	e := &pulls{sites: p.sites, nodes: p.nodes}
	for i, n := range p.nodes {
		m := machine{layers: map[string]bool{}, images: map[*image]bool{}, rng: rand.New(rand.NewPCG(p.seed, uint64(i)))}
		for _, held := range n.holds {
			m.keep(held, n.arch)
		}
		e.state = append(e.state, m)
	}
	return e
}

func (m *machine) keep(i *image, arch string) {
	m.images[i] = true
	for _, l := range i.layers[arch] {
		m.layers[l.digest] = true
	}
}

// want has a pod start on a node; false means that the image is there already.
func (e *pulls) want(n int, i *image, pod string) bool {
	m := &e.state[n]
	if m.images[i] {
		return false
	}
	if at := slices.IndexFunc(m.queue, func(p *pull) bool { return p.image == i }); at >= 0 {
		m.queue[at].pods = append(m.queue[at].pods, pod)
		return true
	}
	m.queue = append(m.queue, &pull{node: n, image: i, pods: []string{pod}})
	if len(m.queue) == 1 {
		e.begin(n)
	}
	e.share()
	return true
}

// begin starts the first pull of a node's queue.
func (e *pulls) begin(n int) {
	m := &e.state[n]
	if len(m.queue) == 0 {
		return
	}
	p := m.queue[0]
	for _, l := range p.image.layers[e.nodes[n].arch] {
		if !m.layers[l.digest] {
			p.missing = append(p.missing, l)
			p.left += float64(l.bytes)
		}
	}
	p.rest = handshake + p.left/e.nodes[n].unpack
	p.limit = around(m.rng, e.nodes[n].speed, pullNoise)
	e.bytes += p.left
}

// share divides each uplink evenly among the pulls that use it; what a slow node leaves, the others get.
func (e *pulls) share() {
	for s, place := range e.sites {
		active := e.active(s)
		free := place.uplink
		if place.noRegistry > e.now {
			free = 0
		}
		slices.SortFunc(active, func(a, b *pull) int { return cmp.Compare(a.limit, b.limit) })
		for i, p := range active {
			p.rate = min(p.limit, free/float64(len(active)-i))
			free -= p.rate
		}
	}
}

// active are the pulls of a site that fetch bytes.
func (e *pulls) active(s int) []*pull {
	var found []*pull
	for n := range e.state {
		if q := e.state[n].queue; e.nodes[n].site == s && len(q) > 0 && q[0].left > 0 {
			found = append(found, q[0])
		}
	}
	return found
}

// next is when something ends, infinity for never.
func (e *pulls) next() float64 {
	soonest := math.Inf(1)
	for n := range e.state {
		if q := e.state[n].queue; len(q) > 0 {
			soonest = min(soonest, e.now+q[0].until())
		}
	}
	for _, s := range e.sites {
		if s.noRegistry > e.now {
			soonest = min(soonest, s.noRegistry)
		}
	}
	return soonest
}

// until is the time to the end of the bytes, or of the rest when there are none left.
func (p *pull) until() float64 {
	switch {
	case p.left > 0 && p.rate > 0:
		return p.left / p.rate
	case p.left > 0:
		return math.Inf(1)
	}
	return p.rest
}

// advance goes to a time that is not after next, and gives the pulls that ended then.
func (e *pulls) advance(to float64) []*pull {
	var ended []*pull
	passed := to - e.now
	e.now = to
	for n := range e.state {
		m := &e.state[n]
		if len(m.queue) == 0 {
			continue
		}
		p := m.queue[0]
		if !p.step(passed) {
			continue
		}
		m.keep(p.image, e.nodes[n].arch)
		m.queue = m.queue[1:]
		ended = append(ended, p)
		e.begin(n)
	}
	e.share()
	return ended
}

// step says whether the pull has ended. Less than a byte, or a microsecond, counts as nothing.
func (p *pull) step(seconds float64) bool {
	if p.left > 0 {
		if p.left -= p.rate * seconds; p.left < 1 {
			p.left = 0
		}
		return false
	}
	p.rest -= seconds
	return p.rest < 1e-6
}
