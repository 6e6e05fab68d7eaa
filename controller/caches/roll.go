package caches

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/rollout"
)

// targets gives the digests of the images that the cache may have.
func (f *facts) targets() rollout.Targets {
	targets := rollout.Targets{}
	for i := range f.images {
		if img := &f.images[i]; img.target != "" {
			targets[img.ref] = img.target
		}
	}
	return targets
}

// rolloutNode is a selected node as a rollout sees it. current says that the gate is to the
// present targets.
func rolloutNode(n *corev1.Node, m *member, far judge, gate rollout.Gate, current bool) rollout.Node {
	node := rollout.Node{
		Name: n.Name, Site: cmp.Or(n.Labels[v1alpha1.LabelSite], n.Labels[corev1.LabelTopologyZone]),
		Connected: m.reach == fleet.Connected,
	}
	switch {
	case m.told(func(s *subject) string { return s.next }):
		node.Progress = m.progress(far)
	case current && gate.LetIn(n.Name):
		node.Progress = rollout.Working // its spec is about to be written
	default:
		node.Busy = m.busy() || gate.LetIn(n.Name) && !m.told(func(s *subject) string { return s.last })
	}
	return node
}

// busy says whether a node works on what its spec asked for before the targets changed.
func (m *member) busy() bool {
	whole := done
	for _, s := range m.images {
		if entry := entryOf(m.object, s.name); entry != nil {
			o, _ := holding(m.object, &subject{name: s.name, want: entry.Digest})
			whole = min(whole, o)
		}
	}
	return whole == updating
}

// roll lets the next nodes in, if the cache spreads its changes.
func (r *Reconciler) roll(ic *v1alpha1.ImageCache, view *fleet.Cache, members []rollout.Node, targets rollout.Targets) *rollout.Decision {
	if !view.Rollout || view.State() != v1alpha1.StateCached {
		r.Gates.Forget(view.Owner())
		return nil
	}
	d := rollout.Decide(members, rollout.LimitsOf(ic.Spec.Rollout, len(members)))
	r.Gates.Let(view.Owner(), targets, d.LetIn)
	for _, name := range d.LetIn {
		r.Touch(name)
	}
	return &d
}
