package controller

import (
	"fmt"
	"maps"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/nodes"
)

// listen connects informers to keys.
func (c *Controller) listen() error {
	edge := c.edge.Edgecache().V1alpha1()
	objects := c.system.Edgecache().V1alpha1().NodeImageCaches().Informer()
	if err := objects.AddIndexers(nodes.Indexers()); err != nil {
		return fmt.Errorf("adding indexers: %w", err)
	}
	for _, on := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{edge.ImageCaches().Informer(), handler[*v1alpha1.ImageCache]{c.cacheChanged, c.cacheGone}},
		{edge.ImageContents().Informer(), handler[*v1alpha1.ImageContent]{c.contentChanged, func(*v1alpha1.ImageContent) {}}},
		{objects, handler[*v1alpha1.NodeImageCache]{c.objectChanged, c.objectGone}},
		{c.kube.Core().V1().Nodes().Informer(), handler[*corev1.Node]{c.nodeChanged, c.nodeGone}},
		{c.leases.Coordination().V1().Leases().Informer(), handler[*coordinationv1.Lease]{c.leaseChanged, c.leaseGone}},
	} {
		registration, err := on.informer.AddEventHandler(on.handler)
		if err != nil {
			return fmt.Errorf("listening to informer: %w", err)
		}
		c.heard = append(c.heard, registration.HasSynced)
	}
	return nil
}

// handler takes events of one type. before is nil for an object that is new.
type handler[T any] struct {
	changed func(before, after T)
	gone    func(last T)
}

// OnAdd takes a new object.
func (h handler[T]) OnAdd(obj any, _ bool) {
	if after, ok := obj.(T); ok {
		var none T
		h.changed(none, after)
	}
}

// OnUpdate takes a changed object.
func (h handler[T]) OnUpdate(oldObj, newObj any) {
	before, ok1 := oldObj.(T)
	after, ok2 := newObj.(T)
	if ok1 && ok2 {
		h.changed(before, after)
	}
}

// OnDelete takes the last known state of an object that is gone.
func (h handler[T]) OnDelete(obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	if last, ok := obj.(T); ok {
		h.gone(last)
	}
}

func (c *Controller) cacheChanged(_, ic *v1alpha1.ImageCache) {
	owner := wish.OwnerOf(ic)
	if before := c.view.Get(owner); before == nil || !before.Shows(ic) {
		// When nodes ask for a tag depends on all that name it, before and after.
		c.addCaches(c.view.Sharing(owner))
		c.view.Put(ic)
		c.addCaches(c.view.Sharing(owner))
	}
	c.caches.Add(keyOf(owner))
}

func (c *Controller) cacheGone(ic *v1alpha1.ImageCache) {
	owner := wish.OwnerOf(ic)
	c.addCaches(c.view.Sharing(owner))
	c.view.Delete(owner)
	c.caches.Add(keyOf(owner))
}

func (c *Controller) addCaches(owners []wish.Owner) {
	for _, o := range owners {
		c.caches.AddAfter(keyOf(o), gatherLeast) // when what happens to this one was taken in
	}
}

// contentChanged has caches looked at again for which the bytes of a digest were missing.
func (c *Controller) contentChanged(_, content *v1alpha1.ImageContent) {
	for _, o := range c.accounts.Sized(v1alpha1.ContentDigest(content.Name)) {
		c.caches.Add(keyOf(o))
	}
}

func (c *Controller) objectChanged(before, after *v1alpha1.NodeImageCache) {
	c.nodes.Add(after.Name)
	c.noteSite(after.Name)
	c.gatherOwners(before)
	c.gatherOwners(after)
	c.gatherSelecting(after.Name)
	if before == nil || before.Status.Runtime.SandboxImage != after.Status.Runtime.SandboxImage {
		c.sandboxes.AddAfter(struct{}{}, c.gatherDelay())
	}
}

func (c *Controller) objectGone(last *v1alpha1.NodeImageCache) {
	c.objectChanged(nil, last)
}

// lookedUp has an owner hear of what was looked up for it.
func (c *Controller) lookedUp(owner wish.Owner) {
	if owner == v1alpha1.OwnerSandboxImage {
		c.sandboxes.AddAfter(struct{}{}, gatherLookUps)
		return
	}
	c.caches.AddAfter(keyOf(owner), gatherLookUps)
}

func (c *Controller) nodeChanged(before, after *corev1.Node) {
	if before != nil && sameNode(before, after) {
		return
	}
	c.nodes.Add(after.Name)
	c.noteSite(after.Name)
	for _, ic := range c.view.All() {
		if before != nil && ic.Selects(before) || ic.Selects(after) {
			c.gather(ic.Owner())
		}
	}
}

func (c *Controller) nodeGone(last *corev1.Node) {
	c.reaches.Forget(last.Name)
	c.nodeChanged(nil, last)
}

// sameNode says whether nothing changed that matters here.
func sameNode(a, b *corev1.Node) bool {
	return a.UID == b.UID && maps.Equal(a.Labels, b.Labels) && fleet.Ready(a) == fleet.Ready(b) &&
		a.Status.NodeInfo == b.Status.NodeInfo
}

func (c *Controller) leaseChanged(_, lease *coordinationv1.Lease) {
	c.clock.Observe(lease, time.Now())
	c.nodes.Add(lease.Name)
}

func (c *Controller) leaseGone(lease *coordinationv1.Lease) {
	c.clock.Forget(lease.Name)
	c.nodes.Add(lease.Name)
}

// noteReach has statuses summed up again when a node came within reach or went out of it.
func (c *Controller) noteReach(name string) {
	n, err := c.kube.Core().V1().Nodes().Lister().Get(name)
	if err != nil {
		return
	}
	fresh, _ := c.clock.Fresh(name, time.Now())
	object, err := c.system.Edgecache().V1alpha1().NodeImageCaches().Lister().NodeImageCaches(v1alpha1.SystemNamespace).Get(name)
	if err != nil {
		object = nil // there is none
	}
	if c.reaches.Note(name, fleet.ReachOf(n, fresh, object)) {
		c.gatherSelecting(name)
	}
}

// noteSite takes in what a node's agent found out for its site. Nodes of a site whose
// digest moved are told.
func (c *Controller) noteSite(name string) {
	c.noting.Lock() // events of Nodes and of objects come side by side: the newest state is noted last
	defer c.noting.Unlock()
	n, err := c.kube.Core().V1().Nodes().Lister().Get(name)
	object, oerr := c.system.Edgecache().V1alpha1().NodeImageCaches().Lister().NodeImageCaches(v1alpha1.SystemNamespace).Get(name)
	if err != nil || oerr != nil {
		c.sites.Forget(name)
		return
	}
	for _, moved := range c.sites.Observe(fleet.OwnSite(n), object, fleet.Ready(n)) {
		for _, other := range moved.Nodes {
			c.nodes.AddAfter(other, gatherLookUps)
		}
	}
}

// gather has the status of a cache summed up soon.
func (c *Controller) gather(owner wish.Owner) {
	c.caches.AddAfter(keyOf(owner), c.gatherDelay())
}

// gatherDelay is how long node events are gathered.
func (c *Controller) gatherDelay() time.Duration {
	return gatherLeast + time.Duration(c.reaches.Len())*gatherPerNode
}

func (c *Controller) gatherOwners(object *v1alpha1.NodeImageCache) {
	if object == nil {
		return
	}
	owners, _ := nodes.OwnersOf(object) // fails only for another type
	for _, o := range owners {
		if o != v1alpha1.OwnerSandboxImage {
			c.gather(wish.Owner(o))
		}
	}
}

func (c *Controller) gatherSelecting(name string) {
	n, err := c.kube.Core().V1().Nodes().Lister().Get(name)
	if err != nil {
		return
	}
	for _, ic := range c.view.All() {
		if ic.Selects(n) {
			c.gather(ic.Owner())
		}
	}
}

// touchAll has everything worked out again.
func (c *Controller) touchAll() {
	for _, ic := range c.view.All() {
		c.caches.Add(keyOf(ic.Owner()))
	}
	all, _ := c.kube.Core().V1().Nodes().Lister().List(labels.Everything()) // a lister over an informer's store cannot fail
	for _, n := range all {
		c.nodes.Add(n.Name)
	}
}

func keyOf(owner wish.Owner) cache.ObjectName {
	namespace, name, _ := strings.Cut(string(owner), "/")
	return cache.ObjectName{Namespace: namespace, Name: name}
}
