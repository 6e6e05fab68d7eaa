package inventory

import (
	"context"
	"slices"
	"time"
)

// Period is how often Run works out what changes with time alone.
const Period = 5 * time.Second

// measureEvery is how many periods pass before the speeds of sites and of the fleet are worked out again.
const measureEvery = 6

// Run works out what changes with time alone, until ctx is done: which agents are not heard of any more, what expired.
// Scoring reads no clock.
func (v *Inventory) Run(ctx context.Context) {
	ticker := time.NewTicker(Period)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			v.Tick(n%measureEvery == 0)
		}
	}
}

// Tick does once what Run does in each period. measure has the speeds worked out too.
func (v *Inventory) Tick(measure bool) {
	for _, n := range v.listen() {
		v.update(func() News { return News{Node: n, Unknown: true} })
	}
	v.flights.age()
	if measure {
		v.measure()
	}
}

// listen judges all agents and gives the nodes of those that ceased to be heard of.
func (v *Inventory) listen() (ceased []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	expected, silent := 0, 0
	for _, r := range v.records {
		if v.judge(r) {
			ceased = append(ceased, r.Name)
		}
		if r.expected() {
			expected++
			if f := r.Node.facts.Load(); f == nil || !f.fresh {
				silent++
			}
		}
	}
	v.stale.Store(2*silent > expected)
	return ceased
}

// priors are what holds for nodes that measured nothing: medians over the fleet, in bytes per second.
type priors struct {
	hosts  map[string]int64
	all    int64
	unpack int64
}

// measure works out the medians, of the fleet and of each site.
func (v *Inventory) measure() {
	fleet, sites := v.speeds()
	p := &priors{hosts: map[string]int64{}, unpack: median(fleet.unpack)}
	var all []int64
	for host, values := range fleet.hosts {
		p.hosts[host] = median(values)
		all = append(all, values...)
	}
	p.all = median(all)
	v.priors.Store(p)
	for s, values := range sites {
		var measured []registry
		for host, of := range values.hosts {
			measured = append(measured, registry{host: host, bytesPerSecond: median(of)})
		}
		s.speeds.Store(&measured)
	}
}

// speeds are what nodes measured.
type speeds struct {
	hosts  map[string][]int64
	unpack []int64
}

func (s *speeds) add(f *facts) {
	for i := range f.registries {
		if g := &f.registries[i]; g.bytesPerSecond > 0 {
			s.hosts[g.host] = append(s.hosts[g.host], g.bytesPerSecond)
		}
	}
	if f.unpack > 0 {
		s.unpack = append(s.unpack, f.unpack)
	}
}

func (v *Inventory) speeds() (fleet *speeds, sites map[*site]*speeds) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	fleet, sites = &speeds{hosts: map[string][]int64{}}, map[*site]*speeds{}
	for _, s := range v.sites {
		sites[s] = &speeds{hosts: map[string][]int64{}}
	}
	for _, r := range v.records {
		if r.facts == nil {
			continue
		}
		fleet.add(r.facts)
		if s := sites[r.site.Load()]; s != nil {
			s.add(r.facts)
		}
	}
	return fleet, sites
}

// median of values, 0 of none.
func median(values []int64) int64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
