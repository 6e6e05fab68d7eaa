package caches

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/limits"
	"edgecache.dev/controller/nodes"
)

// claim tells the accounts what the cache's images are.
func (r *Reconciler) claim(ic *v1alpha1.ImageCache, view *fleet.Cache, images []image) error {
	owner := view.Owner()
	if !r.Accounts.Weighs(ic.Namespace) {
		return nil
	}
	if view.State() == v1alpha1.StatePurged {
		r.Accounts.Drop(owner)
		return nil
	}
	held, err := r.held(owner)
	if err != nil {
		return err
	}
	c := limits.Claim{Owner: owner, Created: ic.CreationTimestamp.Time, Named: held, Held: held}
	if !view.Barred { // else only what nodes keep counts
		c.Named = map[digest.Digest]bool{}
		for i := range images {
			if d := images[i].target; d != "" {
				c.Named[d] = true
			}
		}
	}
	r.Accounts.Put(c)
	return nil
}

// decide has those caches looked at again that fit, or no longer fit, as the claims now are.
// The present one is being looked at.
func (r *Reconciler) decide(present wish.Owner) {
	for _, o := range r.Accounts.Decide(present.Namespace()) {
		if o != present {
			r.Again(o)
		}
	}
}

// held gives the digests that nodes are asked to hold on an owner's behalf.
func (r *Reconciler) held(owner wish.Owner) (map[digest.Digest]bool, error) {
	objects, err := r.ObjectIndex.ByIndex(nodes.IndexOwner, string(owner))
	if err != nil {
		return nil, fmt.Errorf("finding nodes of ImageCache %s: %w", owner, err)
	}
	held := map[digest.Digest]bool{}
	for _, o := range objects {
		object, ok := o.(*v1alpha1.NodeImageCache)
		if !ok {
			continue // the store has nothing else
		}
		for i := range object.Spec.Images {
			if img := &object.Spec.Images[i]; slices.Contains(img.Owners, string(owner)) {
				held[digest.Digest(img.Digest)] = true
			}
		}
	}
	return held, nil
}

// judge lets the cache's images on to nodes if their bytes fit.
func (r *Reconciler) judge(view *fleet.Cache) *fleet.Cache {
	refusal := fleet.Refusal{}
	if rule := r.Accounts.Refusal(view.Owner()); rule != "" {
		refusal = fleet.Refusal{Reason: v1alpha1.ReasonNotAllowed, Message: rule}
	}
	return r.View.Judge(view, refusal)
}
