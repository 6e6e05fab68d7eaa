package inventory

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Promise remembers that the node will pull for a pod what it has not, within about the given time. Making it again, for
// the same node or for another, replaces what was promised. It is forgotten when the node's agent tells that it holds the
// images, by Done, or when twice the time and a minute have passed.
func (d *Demand) Promise(pod types.UID, n *Node, takes time.Duration) {
	f := d.inventory.flights
	parts := d.absent(n)
	if len(parts) == 0 {
		f.done(pod)
		return
	}
	now := f.now()
	f.add(&promise{pod: pod, node: n, names: d.Names, parts: parts, begun: now, takes: takes, expiry: now.Add(2*takes + time.Minute)})
}

// Done forgets what was promised for a pod: it is placed elsewhere, gone, or runs.
func (v *Inventory) Done(pod types.UID) { v.flights.done(pod) }

// absent are the parts that the node has not, on their way or not.
func (d *Demand) absent(n *Node) (parts []part) {
	if n == nil {
		return nil
	}
	f := n.facts.Load()
	if f == nil || f.platform >= len(d.on) {
		return nil
	}
	present := d.present(n.number)
	for i := range d.on[f.platform].groups {
		g := &d.on[f.platform].groups[i]
		if g.needed&^present != 0 && !g.holder.has(n.number) {
			parts = append(parts, g.part)
		}
	}
	return slices.Clip(parts)
}

// SitesBusy says whether anything is on its way over a site's uplink.
func (v *Inventory) SitesBusy() bool { return v.flights.shared.Load() > 0 }
