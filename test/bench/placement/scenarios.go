package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// plan is all that happens in one run, whichever scheduler places the pods.
type plan struct {
	scenario string
	seed     uint64
	sites    []*site
	nodes    []*node
	images   []*image
	// unresolved images are not known to the scheduler before a node holds them: no ImageContent, no wish.
	unresolved map[*image]bool
	// wished are what ImageCaches ask nodes for and what is not there yet, by node.
	wished   map[int][]*image
	arrivals []arrival
	rollouts []*rollout
}

// arrival is one pod.
type arrival struct {
	at    float64 // seconds
	image *image
	lives float64 // seconds after it is ready; 0 stays
}

// rollout replaces the pods of an application as a Deployment does: surge of them at first, and each that gets ready makes
// room for the next.
type rollout struct {
	to       *image
	replicas int
	surge    int
	old      []int // nodes of the old pods
}

// scenario makes plans.
type scenario struct {
	name, what string
	make       func(*draft)
}

// draft is a plan in the making, with the dice.
type draft struct {
	*plan
	rng  *rand.Rand
	apps [][2]*image // versions
}

const appCount = 12

// scenarios are those of docs/placement-study.md.
func scenarios() []scenario {
	return []scenario{
		{"burst", "24 pods of an image that four nodes hold, one in each site", burst},
		{"cold", "24 pods of an image that no node holds", cold},
		{"rollout", "20 replicas of a new version of what 12 nodes hold; most layers stay", rollOut},
		{"unresolved", "the same, and nobody has looked up the new version", unresolved},
		{"mixed", "three rollouts at once, on two architectures, over uplinks from 5 to 100 Mbit/s", mixed},
		{"offline", "24 pods while a site has no registry for 15 minutes; it holds half of the copies", offline},
		{"steady", "80 pods within an hour, of 12 applications of unlike popularity", steady},
	}
}

// newPlan makes the same plan for the same seed.
func newPlan(s scenario, seed uint64) *plan {
	rng := rand.New(rand.NewPCG(seed, 0))
	d := &draft{plan: &plan{scenario: s.name, seed: seed, unresolved: map[*image]bool{}, wished: map[int][]*image{}}, rng: rng}
	d.sites, d.nodes = fleet(rng)
	c := newCatalog(seed, rng)
	for i := range appCount {
		v1, v2 := c.versions(fmt.Sprintf("app%d", i))
		d.apps = append(d.apps, [2]*image{v1, v2})
		d.images = append(d.images, v1)
	}
	for _, n := range d.nodes {
		for _, i := range rng.Perm(appCount - 3)[:3] { // the first three are the scenarios' own
			n.holds = append(n.holds, d.apps[3+i][0])
		}
	}
	s.make(d)
	tell(rng, d.sites, d.nodes)
	return d.plan
}

// some are nodes with room for three pods, drawn without repetition.
func (d *draft) some(count int) (found []int) {
	for _, n := range d.rng.Perm(len(d.nodes)) {
		if d.nodes[n].milliCPU-d.nodes[n].ballast >= 3*podMilliCPU && len(found) < count {
			found = append(found, n)
		}
	}
	return found
}

func (d *draft) give(i *image, nodes ...int) {
	for _, n := range nodes {
		d.nodes[n].holds = append(d.nodes[n].holds, i)
	}
}

// onePerSite are four nodes.
func (d *draft) onePerSite() (found []int) {
	for s := range siteCount {
		found = append(found, s*nodesPerSite+d.rng.IntN(nodesPerSite))
	}
	return found
}

func (d *draft) arrive(i *image, count int, gap float64) {
	for k := range count {
		d.arrivals = append(d.arrivals, arrival{at: float64(k) * gap, image: i})
	}
}

func burst(d *draft) {
	app := d.apps[0][0]
	d.give(app, d.onePerSite()...)
	d.arrive(app, 24, 0.5)
}

func cold(d *draft) {
	app := d.apps[0][0]
	d.wish(app)
	d.arrive(app, 24, 0.5)
}

// wish has an ImageCache ask for an image on one node of each site. So it is looked up, and not there yet: the agents wait
// for their window.
func (d *draft) wish(i *image) {
	for _, n := range d.onePerSite() {
		d.wished[n] = append(d.wished[n], i)
	}
}

// replace rolls the second version of an application out.
func (d *draft) replace(app, holders, replicas int) {
	v1, v2 := d.apps[app][0], d.apps[app][1]
	d.images = append(d.images, v2)
	nodes := d.some(holders)
	d.give(v1, nodes...)
	r := &rollout{to: v2, replicas: replicas, surge: int(math.Ceil(float64(replicas) / 4))}
	for i := range replicas {
		r.old = append(r.old, nodes[i%len(nodes)])
	}
	d.rollouts = append(d.rollouts, r)
}

func rollOut(d *draft) {
	d.replace(0, 12, 20)
	d.wish(d.apps[0][1])
}

func unresolved(d *draft) {
	d.replace(0, 12, 20)
	d.unresolved[d.apps[0][1]] = true
}

func mixed(d *draft) {
	for s, uplink := range []float64{0.6, 2.5, 5, 12.5} {
		d.sites[s].uplink = uplink * megabyte
	}
	for _, n := range d.nodes {
		if n.site%2 == 1 {
			n.arch = arm64
		}
	}
	for app := range 3 {
		d.replace(app, 10, 10)
		d.wish(d.apps[app][1])
	}
}

func offline(d *draft) {
	app := d.apps[0][0]
	dark := d.rng.IntN(siteCount)
	d.sites[dark].noRegistry = 15 * 60
	inside := d.rng.Perm(nodesPerSite)[:3]
	for _, n := range inside {
		d.give(app, dark*nodesPerSite+n)
	}
	for _, s := range d.rng.Perm(siteCount) {
		if s != dark {
			d.give(app, s*nodesPerSite+d.rng.IntN(nodesPerSite))
		}
	}
	d.arrive(app, 24, 0.5)
}

// steady draws the applications by Zipf's law and the times between pods and their lives from exponentials.
func steady(d *draft) {
	zipf := rand.NewZipf(d.rng, 1.1, 1, appCount-1)
	for app := range 3 {
		d.give(d.apps[app][0], d.some(3)...)
	}
	at := 0.0
	for range 80 {
		at += d.rng.ExpFloat64() * 3600 / 80
		d.arrivals = append(d.arrivals, arrival{at: at, image: d.apps[zipf.Uint64()][0], lives: d.rng.ExpFloat64() * 15 * 60})
	}
}
