package caches

import (
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
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

// rolloutNode is a selected node as a rollout sees it.
func (r *Reconciler) rolloutNode(m *member, owner wish.Owner, targets rollout.Targets) rollout.Node {
	node := rollout.Node{Name: m.name, Connected: m.reach == fleet.Connected}
	if m.placed {
		node.Site = m.site
	}
	switch {
	case m.told(targets):
		node.Progress = m.progress(targets)
	case r.Gates.In(owner, targets, m.name):
		node.Progress = rollout.Working // its spec is about to be written
	}
	return node
}

// roll lets the next nodes in, if the cache spreads its changes.
func (r *Reconciler) roll(f *facts, view *fleet.Cache, members []member) *rollout.Decision {
	if !view.Rollout || view.State() != v1alpha1.StateCached {
		r.Gates.Forget(view.Owner())
		return nil
	}
	targets := f.targets()
	r.addSites(targets, f)
	nodes := make([]rollout.Node, 0, len(members))
	for i := range members {
		nodes = append(nodes, r.rolloutNode(&members[i], view.Owner(), targets))
	}
	d := rollout.Decide(nodes, rollout.LimitsOf(f.ic.Spec.Rollout, len(nodes)))
	r.Gates.Let(view.Owner(), targets, d.LetIn)
	for _, name := range d.LetIn {
		r.Touch(name)
	}
	return &d
}
