package caches

import (
	"cmp"
	"maps"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
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

// rolloutNode is a selected node as a rollout sees it.
func (r *Reconciler) rolloutNode(n *corev1.Node, m *member, far judge, owner wish.Owner, targets rollout.Targets) rollout.Node {
	node := rollout.Node{
		Name: n.Name, Site: cmp.Or(n.Labels[v1alpha1.LabelSite], n.Labels[corev1.LabelTopologyZone]),
		Connected: m.reach == fleet.Connected,
	}
	letInTo := r.Gates.LetInTo(owner, n.Name)
	switch {
	case told(m.object, m.images, targets):
		node.Progress = m.progress(far, targets)
	case letInTo != nil && maps.Equal(letInTo, targets):
		node.Progress = rollout.Working // its spec is about to be written
	default:
		node.Busy = m.busy() || letInTo != nil && !told(m.object, m.images, letInTo)
	}
	return node
}

// busy says whether a node works on what its spec asked for before the targets changed.
func (m *member) busy() bool {
	asked := rollout.Targets{}
	for _, ref := range m.images {
		if i, found := entryOf(m.object, ref); found {
			asked[ref] = digest.Digest(m.object.Spec.Images[i].Digest)
		}
	}
	far := holding(func(ref imageref.Reference) digest.Digest { return asked[ref] })
	return m.progress(far, asked) == rollout.Working
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
