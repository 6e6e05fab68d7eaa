package fleet

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

// View holds every ImageCache, prepared for matching.
type View struct {
	limits Limits

	mu     sync.RWMutex
	caches map[wish.Owner]*Cache      // guarded by mu; values are immutable
	list   []*wish.Cache              // guarded by mu; rebuilt when nil, never changed in place
	asks   map[imageref.Reference]Ask // guarded by mu; rebuilt when nil, never changed in place

	made     map[imageref.Reference]*made // what asks were made of; guarded by mu
	recalled map[string]map[string]int    // see Recall; guarded by mu
}

// Cache is an ImageCache as last seen.
type Cache struct {
	*wish.Cache
	// Errs are the parts of the spec that could not be used.
	Errs field.ErrorList
	// LetsGo says that the cache is being deleted and its images stay on the nodes.
	LetsGo bool
	// Refusal says why nothing is done for the cache; its zero value that it is served. A
	// refused cache counts as Suspended: acting on a part of its spec would do what was not
	// asked for, and what nodes have is not taken from them.
	Refusal Refusal
	// Barred says that the cache is refused for what its spec says, whatever its images weigh.
	Barred bool
	// Rollout says that nodes are let in to a change one by one.
	Rollout bool

	// Token is the value of the annotation edgecache.dev/requestedAt.
	Token string

	handled    string      // the refresh that the status called done when the spec was first seen
	asked      *wish.Cache // as the spec has it
	weighed    bool        // whether the images' bytes fit is known, or does not matter
	refreshes  func(imageref.Reference) time.Duration
	uid        string
	generation int64
	deleting   bool
	before     *wish.Cache // as it stood before the last edit that was seen; may be nil
}

// Refusal is why an ImageCache is not served.
type Refusal struct{ Reason, Message string }

// Limits say which rule of the controller's settings an ImageCache breaks, "" for none.
type Limits interface {
	Refusal(ic *v1alpha1.ImageCache) string
	// Weighs says whether there is a limit to what the images of a namespace weigh.
	Weighs(namespace string) bool
}

// NewView makes an empty view.
func NewView(limits Limits) *View {
	return &View{limits: limits, caches: map[wish.Owner]*Cache{}}
}

// Put takes in an ImageCache as it stands now.
func (v *View) Put(ic *v1alpha1.ImageCache) {
	owner := wish.OwnerOf(ic)
	v.mu.Lock()
	defer v.mu.Unlock()
	last := v.caches[owner]
	token := ic.Annotations[v1alpha1.AnnotationRequestedAt]
	switch {
	case last == nil || !last.hasSpecOf(ic):
		v.compile(ic, last)
	case last.Token == token:
		return
	default: // only a refresh was asked for
		asked := *last
		asked.Token = token
		v.caches[owner] = &asked
	}
	v.list, v.asks = nil, nil
}

// compile prepares an ImageCache whose spec was not seen yet. Callers hold mu.
func (v *View) compile(ic *v1alpha1.ImageCache, last *Cache) {
	owner := wish.OwnerOf(ic)
	deleting := ic.DeletionTimestamp != nil
	refusal := v.refuse(ic)
	compiled, errs := wish.Compile(ic)
	c := &Cache{
		asked: compiled, Errs: errs, Rollout: ic.Spec.Rollout != nil,
		Barred: refusal.Reason != "", weighed: !v.limits.Weighs(ic.Namespace),
		Token: ic.Annotations[v1alpha1.AnnotationRequestedAt], handled: ic.Status.LastHandledRefreshAt, refreshes: refreshes(&ic.Spec),
		LetsGo: deleting && ic.Spec.DeletionPolicy != v1alpha1.DeletionRemove,
		uid:    string(ic.UID), generation: ic.Generation, deleting: deleting,
	}
	c.refuse(refusal)
	if last != nil && last.uid == string(ic.UID) {
		c.before = last.Cache
	}
	v.caches[owner] = c
}

// Judge notes whether the bytes of a cache's images fit: refusal is zero when they do. Until
// then a cache of a namespace whose bytes are limited counts as Suspended. It gives the
// cache as it now is. What changed in the view meanwhile is left as it is.
func (v *View) Judge(c *Cache, refusal Refusal) *Cache {
	if c.Barred || c.weighed && c.Refusal == refusal {
		return c
	}
	judged := *c
	judged.weighed = true
	judged.refuse(refusal)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.caches[c.Owner()] == c {
		v.caches[c.Owner()] = &judged
		v.list, v.asks = nil, nil
	}
	return &judged
}

func (c *Cache) refuse(refusal Refusal) {
	c.Refusal, c.Cache = refusal, c.asked
	if refusal.Reason != "" || !c.weighed {
		c.Cache = c.asked.Suspended()
	}
}

// Resolves says whether the cache's images are looked up. Those of one that is refused for
// its bytes are: it must be known when they fit.
func (c *Cache) Resolves() bool { return !c.Barred && c.asked.State() == v1alpha1.StateCached }

// Shows says whether the ImageCache stands as it is in the view. It does not while an event
// is on its way.
func (c *Cache) Shows(ic *v1alpha1.ImageCache) bool {
	return c.hasSpecOf(ic) && c.Token == ic.Annotations[v1alpha1.AnnotationRequestedAt]
}

func (c *Cache) hasSpecOf(ic *v1alpha1.ImageCache) bool {
	return c.uid == string(ic.UID) && c.generation == ic.Generation && c.deleting == (ic.DeletionTimestamp != nil)
}

func (v *View) refuse(ic *v1alpha1.ImageCache) Refusal {
	if rule := v.limits.Refusal(ic); rule != "" {
		return Refusal{v1alpha1.ReasonNotAllowed, rule}
	}
	return Refusal{}
}

// Delete drops an ImageCache.
func (v *View) Delete(owner wish.Owner) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.caches, owner)
	v.list, v.asks = nil, nil
}

// Get gives one ImageCache, nil when there is none.
func (v *View) Get(owner wish.Owner) *Cache {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.caches[owner]
}

// All gives every ImageCache. Callers do not change the slice.
func (v *View) All() []*wish.Cache {
	v.mu.RLock()
	list := v.list
	v.mu.RUnlock()
	if list != nil {
		return list
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.list = make([]*wish.Cache, 0, len(v.caches))
	for _, c := range v.caches {
		v.list = append(v.list, c.Cache)
	}
	return v.list
}

// Naming gives the ImageCaches that name an image in any list.
func (v *View) Naming(ref imageref.Reference) []wish.Owner {
	var owners []wish.Owner
	for _, c := range v.All() {
		if c.Names(ref) {
			owners = append(owners, c.Owner())
		}
	}
	return owners
}

// GaveUp says whether an image that a node holds on an owner's behalf alone is to be
// removed when nobody asks for it any more. It is when the owner is there and no longer
// asks for it. It is not when the owner was deleted with deletionPolicy Retain, which
// leaves the image as it is.
func (v *View) GaveUp(owner wish.Owner) bool {
	c := v.Get(owner)
	return c != nil && !c.LetsGo
}

// Strayed says whether an owner still names an image and no longer selects the node for
// it, not by an edit of its own but because the node changed. Who cannot tell, such as a
// controller that just started, takes it for the node: the image then stays longer.
func (v *View) Strayed(owner wish.Owner, ref imageref.Reference, node *corev1.Node) bool {
	c := v.Get(owner)
	if c == nil || c.State() != v1alpha1.StateCached || !c.Names(ref) || slices.Contains(c.On(node), ref) {
		return false
	}
	return c.before == nil || !slices.Contains(c.before.On(node), ref)
}
