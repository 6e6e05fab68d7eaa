package inventory

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what an Inventory starts with.
type Options struct {
	// BytesPerSecond and UnpackBytesPerSecond hold where nothing is measured.
	BytesPerSecond, UnpackBytesPerSecond int64
	// Now is the time; nil is time.Now.
	Now func() time.Time
}

// Inventory is what is known of all nodes. It is safe for concurrent use.
type Inventory struct {
	options Options

	mu          sync.RWMutex
	records     map[string]*record  // guarded by mu, as is all that follows
	leases      map[string]lease    // also of nodes that are not known
	images      map[string]*image   // by digest
	names       map[string]*name    // by canonical reference
	layers      map[string]*layer   // by digest
	contents    map[string]*content // by digest
	byRepo      map[string][]*content
	platforms   []string // of nodes; an index never changes its meaning
	sites       map[string]*site
	numbers     numbers
	generation  uint64 // grows with each change that Demands are compiled from
	index       map[string]*Node
	indexed     bool // index holds exactly the nodes of records
	demands     map[string]*Demand
	compiledOf  uint64 // the generation of demands
	subscribers []func(News)

	flights *flights
	priors  atomic.Pointer[priors]
	stale   atomic.Bool // too few agents are heard of
	synced  [3]atomic.Bool
}

// New makes an empty Inventory.
func New(options Options) *Inventory {
	if options.Now == nil {
		options.Now = time.Now
	}
	v := &Inventory{
		options: options, records: map[string]*record{}, leases: map[string]lease{}, images: map[string]*image{}, names: map[string]*name{},
		layers: map[string]*layer{}, contents: map[string]*content{}, byRepo: map[string][]*content{}, sites: map[string]*site{},
		index: map[string]*Node{}, demands: map[string]*Demand{}, flights: newFlights(options.Now),
	}
	v.priors.Store(&priors{})
	return v
}

// News is what changed on one node that may let a pod start there which could not before.
type News struct {
	Node string
	// Names are references and digests that it holds now and did not before.
	Names []string
	// Hosts are registries that are in reach again.
	Hosts []string
	// Unknown is true where nothing is known of the node any more, which speaks against no pod.
	Unknown bool
}

// Subscribe has f called with all news.
func (v *Inventory) Subscribe(f func(News)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.subscribers = append(v.subscribers, f)
}

// Synced says whether all that is watched was read once.
func (v *Inventory) Synced() bool {
	for i := range v.synced {
		if !v.synced[i].Load() {
			return false
		}
	}
	return true
}

// Complete has all count as read, for those who take in objects themselves instead of by Feed.
func (v *Inventory) Complete() {
	for i := range v.synced {
		v.synced[i].Store(true)
	}
}

// Healthy is false while more than half of the agents that should be heard of are not: then the fault is rather with
// what carries the news than with the nodes, and nothing should be concluded from it.
func (v *Inventory) Healthy() bool { return !v.stale.Load() }

// Size is how much is remembered, for metrics and tests.
type Size struct{ Nodes, Images, Names, Layers, Promises int }

// Size counts.
func (v *Inventory) Size() Size {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return Size{Nodes: len(v.records), Images: len(v.images), Names: len(v.names), Layers: len(v.layers), Promises: v.flights.count()}
}

// record gives the node's record, new where there is none.
func (v *Inventory) record(node string) *record {
	r := v.records[node]
	if r == nil {
		r = &record{Node: &Node{Name: node, number: v.numbers.take()}, lease: v.leases[node]}
		v.records[node] = r
		v.indexed = false
	}
	return r
}

// release forgets a node of which neither its Node nor its NodeImageCache is left.
func (v *Inventory) release(r *record) {
	if r.exists || r.told {
		return
	}
	delete(v.records, r.Name)
	v.flights.forget(r.Node)
	v.numbers.give(r.number)
	v.indexed = false
	v.generation++
}

// nodes is an index of all nodes that is never changed.
func (v *Inventory) nodes() map[string]*Node {
	if !v.indexed {
		v.index = make(map[string]*Node, len(v.records))
		for name, r := range v.records {
			v.index[name] = r.Node
		}
		v.indexed = true
	}
	return v.index
}

func (v *Inventory) site(name string) *site {
	if name == "" {
		return nil
	}
	s := v.sites[name]
	if s == nil {
		s = &site{}
		v.sites[name] = s
	}
	return s
}

// platform gives the index of a platform of nodes.
func (v *Inventory) platform(text string) int {
	if i := slices.Index(v.platforms, text); i >= 0 {
		return i
	}
	v.platforms = append(v.platforms, text)
	for _, c := range v.contents {
		c.byPlatform = append(slices.Clone(c.byPlatform), c.variantFor(text))
	}
	v.generation++
	return len(v.platforms) - 1
}

// numbers gives out the smallest number that is free.
type numbers struct {
	next int
	free []int
}

func (n *numbers) take() int {
	if last := len(n.free) - 1; last >= 0 {
		number := n.free[last]
		n.free = n.free[:last]
		return number
	}
	n.next++
	return n.next - 1
}

func (n *numbers) give(number int) { n.free = append(n.free, number) }
