package inventory

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/scheduler-plugin/scoring"
)

// Want is one image that a pod needs.
type Want struct {
	Ref    imageref.Reference
	Name   string // Ref in canonical form
	Policy corev1.PullPolicy
}

// maxWants bounds a pod's images; what is beyond is not looked at.
const maxWants = 64

// Demand is what the images of one kind of pod cost on each node. It is made by Inventory.Demand and never changes; it
// is safe for concurrent use.
type Demand struct {
	// Known is false where nothing is known of any of the images.
	Known bool
	// Names are the images' canonical references.
	Names []string
	// Digests are what is known of what they stand for.
	Digests []string
	// Hosts are the registries that they are named after.
	Hosts []string

	inventory *Inventory
	nodes     map[string]*Node
	wants     []wanted
	on        []onPlatform
	hosts     []hostOf
	asks      bool // some policy is Always
}

// wanted is one image of a Demand.
type wanted struct {
	digest  string
	host    int // index of hosts
	always  bool
	never   bool
	present bits // nodes that need nothing more for it
	named   bits // nodes that have it under its name; the same but for policy Always
	lazy    bits
}

// hostOf is a registry with what holds for nodes that did not measure it.
type hostOf struct {
	name  string
	prior int64
}

// onPlatform is what a Demand consists of on one platform.
type onPlatform struct {
	architecture string
	total        int64
	absent       bool // an image has nothing for the platform
	groups       []group
}

// group are layers of a Demand that the same images have in common: a node has all of them or none.
type group struct {
	part
	needed uint64 // images of the Demand that have it, by index
	host   int
	holder bits
}

// Demand compiles what the images need. The same images cost little the second time, while no node's images changed.
func (v *Inventory) Demand(wants []Want) *Demand {
	key := keyOf(wants)
	if d := v.compiled(key); d != nil {
		return d
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.compiledOf != v.generation || len(v.demands) >= maxDemands {
		clear(v.demands)
		v.compiledOf = v.generation
	}
	d := v.compile(wants)
	v.demands[key] = d
	return d
}

// maxDemands bounds what is remembered of compiled demands.
const maxDemands = 1024

func (v *Inventory) compiled(key string) *Demand {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.compiledOf != v.generation || !v.indexed {
		return nil
	}
	return v.demands[key]
}

// keyOf is the same for pods that need the same images in the same way, whatever the order.
func keyOf(wants []Want) string {
	var b strings.Builder
	for i := range wants {
		b.WriteString(wants[i].Name)
		b.WriteByte(' ')
		b.WriteString(string(wants[i].Policy))
		b.WriteByte('\n')
	}
	return b.String()
}

// Normalize sorts wants and drops what stands there twice.
func Normalize(wants []Want) []Want {
	slices.SortFunc(wants, func(a, b Want) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Policy, b.Policy)) })
	wants = slices.Compact(wants)
	return wants[:min(len(wants), maxWants)]
}

// Node gives the node of that name, nil where none is known.
func (d *Demand) Node(name string) *Node { return d.nodes[name] }

// Facts are what the images cost on a node of which an agent tells; ok is false where none does. offline says whether
// registries that are out of reach count. shared says whether what is on its way to other nodes of the site comes first.
func (d *Demand) Facts(n *Node, offline, shared bool) (facts scoring.Facts, ok bool) {
	if n == nil {
		return facts, false
	}
	f := n.facts.Load()
	if f == nil || !f.fresh || f.platform >= len(d.on) {
		return facts, false
	}
	c := &d.on[f.platform]
	present := d.present(n.number)
	facts.Total, facts.AsksRegistry = c.total, d.asks
	if present != d.all() {
		d.missing(&facts, n, f, c, present)
		if shared {
			facts.Ahead = max(facts.Ahead, n.site.Load().total())
		}
	}
	facts.Bar = d.bar(n, f, c, present, facts.Missing, offline)
	return facts, true
}

// present are the images, by index, for which the node needs nothing more.
func (d *Demand) present(number int) uint64 {
	var set uint64
	for i := range d.wants {
		if d.wants[i].present.has(number) {
			set |= 1 << i
		}
	}
	return set
}

func (d *Demand) all() uint64 {
	if len(d.wants) == maxWants {
		return ^uint64(0)
	}
	return 1<<len(d.wants) - 1
}

// missing adds up what the node has not.
func (d *Demand) missing(facts *scoring.Facts, n *Node, f *facts, c *onPlatform, present uint64) {
	coming := n.flight.Load()
	facts.Ahead = coming.bytes()
	var from uint64 // hosts
	for i := range c.groups {
		g := &c.groups[i]
		if g.needed&^present == 0 || g.holder.has(n.number) {
			continue
		}
		if coming != nil {
			if left, ok := coming.left[g.key]; ok {
				facts.Joining += min(left, g.bytes)
				from |= 1 << g.host
				continue
			}
		}
		facts.Missing += g.bytes
		from |= 1 << g.host
	}
	facts.BytesPerSecond = d.speed(from, f.registries, n.site.Load())
	facts.UnpackPerSecond = cmp.Or(f.unpack, d.inventory.priors.Load().unpack, d.inventory.options.UnpackBytesPerSecond)
}

// speed is that of the slowest of the hosts: as the node measured it, or its site, or the fleet.
func (d *Demand) speed(hosts uint64, measured []registry, s *site) int64 {
	var slowest int64
	for i := range d.hosts {
		if hosts&(1<<i) == 0 {
			continue
		}
		h := &d.hosts[i]
		here := speed(measured, h.name)
		if here == 0 {
			here = s.speed(h.name)
		}
		if here == 0 {
			here = h.prior
		}
		if slowest == 0 || here < slowest {
			slowest = here
		}
	}
	return slowest
}

// unpackedOfFetched is how much layers grow when they are unpacked, at a guess: the agent's.
const unpackedOfFetched = 2.5

// bar says whether something keeps the pod from starting on the node as things are.
func (d *Demand) bar(n *Node, f *facts, c *onPlatform, present uint64, missing int64, offline bool) scoring.Why {
	switch {
	case c.absent && present != d.all():
		return scoring.WhyOtherPlatform
	case offline && d.offline(n, f, present):
		return scoring.WhyOffline
	case present == d.all():
		return 0
	case d.neverPulled(n.number):
		return scoring.WhyNeverPulled
	case f.room >= 0 && missing > 0 && float64(missing)*(1+unpackedOfFetched) > float64(f.room):
		return scoring.WhyNoRoom
	}
	return 0
}

// offline says whether an image's registry is out of reach and is asked before the pod starts: for the bytes, for the
// tag's digest, for the right to use what is there, or for files when they are read.
func (d *Demand) offline(n *Node, f *facts, present uint64) bool {
	for i := range d.wants {
		w := &d.wants[i]
		starts := present&(1<<i) != 0 && !w.always && !f.verifies && !f.noSandbox && !w.lazy.has(n.number)
		if !starts && f.down(d.hosts[w.host].name) {
			return true
		}
	}
	return false
}

func (d *Demand) neverPulled(number int) bool {
	return slices.ContainsFunc(d.wants, func(w wanted) bool { return w.never && !w.named.has(number) })
}

// Neutral are what the images cost on a node of which no agent tells, but for those that the kubelet lists. listed says
// which; architecture is the node's.
func (d *Demand) Neutral(n *Node, architecture string, listed func(name string) bool) scoring.Facts {
	facts := scoring.Facts{Unknown: true, AsksRegistry: d.asks}
	c := d.onArchitecture(architecture)
	if c == nil {
		return facts
	}
	var present uint64
	for i, name := range d.Names {
		if listed(name) {
			present |= 1 << i
		}
	}
	var from uint64
	for i := range c.groups {
		if g := &c.groups[i]; g.needed&^present != 0 {
			facts.Missing += g.bytes
			from |= 1 << g.host
		}
	}
	var s *site
	if n != nil {
		s = n.site.Load()
	}
	facts.Total = c.total
	facts.BytesPerSecond = d.speed(from, nil, s)
	facts.UnpackPerSecond = cmp.Or(d.inventory.priors.Load().unpack, d.inventory.options.UnpackBytesPerSecond)
	return facts
}

// onArchitecture is the content for a node that tells no more of its platform, that of any platform where none fits.
func (d *Demand) onArchitecture(architecture string) *onPlatform {
	for i := range d.on {
		if d.on[i].architecture == architecture {
			return &d.on[i]
		}
	}
	if len(d.on) == 0 {
		return nil
	}
	return &d.on[0]
}

func (s *site) total() int64 {
	if s == nil {
		return 0
	}
	return s.ahead.Load()
}
