package caches

import (
	"maps"
	"slices"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/rollout"
)

// targets gives the digests of the images that the cache may have, in the whole fleet.
func (f *facts) targets() rollout.Targets {
	targets := rollout.Targets{}
	for i := range f.images {
		if img := &f.images[i]; img.target != "" && img.sites == nil {
			targets[rollout.Image{Ref: img.ref}] = img.target
		}
	}
	return targets
}

// rolloutNode is a selected node as a rollout sees it. current says that the gate is to the
// present targets.
func rolloutNode(m *member, gate rollout.Gate, current bool) rollout.Node {
	node := rollout.Node{Name: m.name, Connected: m.reach == fleet.Connected}
	if m.placed {
		node.Site = m.site
	}
	switch {
	case m.told(func(s *subject) string { return s.next }):
		node.Progress = m.progress()
	case current && gate.LetIn(m.name) && m.crowded():
		node.Progress = rollout.Failed // it is told when there is place
	case current && gate.LetIn(m.name):
		node.Progress = rollout.Working // its spec is about to be written
	default:
		node.Busy = m.busy() || gate.LetIn(m.name) && !m.told(func(s *subject) string { return s.last })
	}
	return node
}

// crowded says whether the node's spec has no place for some image.
func (m *member) crowded() bool {
	return slices.ContainsFunc(m.images, func(s *subject) bool { return s.next != "" && crowdedOut(m.object, s.name) })
}

// busy says whether a node works on what its spec asked for before the targets changed.
func (m *member) busy() bool {
	whole := done
	for _, s := range m.images {
		// Without a digest it asks what a tag stands for, which nobody holds back.
		if entry := entryOf(m.object, s.name); entry != nil && entry.Digest != "" {
			o, _ := holding(m.object, &subject{name: s.name, want: entry.Digest})
			whole = min(whole, o)
		}
	}
	return whole == updating
}

// roll lets the next nodes in, if the cache spreads its changes.
func (r *Reconciler) roll(f *facts, view *fleet.Cache, members []member, targets rollout.Targets) *rollout.Decision {
	if !view.Rollout || view.State() != v1alpha1.StateCached {
		r.Gates.Forget(view.Owner())
		return nil
	}
	targets = r.withSites(targets, f)
	gate := r.Gates.Of(view.Owner())
	current := maps.Equal(gate.Targets, targets)
	nodes := make([]rollout.Node, 0, len(members))
	for i := range members {
		nodes = append(nodes, rolloutNode(&members[i], gate, current))
	}
	d := rollout.Decide(nodes, rollout.LimitsOf(f.ic.Spec.Rollout, len(nodes)))
	r.Gates.Let(view.Owner(), targets, d.LetIn)
	for _, name := range d.LetIn {
		r.Touch(name)
	}
	return &d
}
