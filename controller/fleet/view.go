package fleet

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

// View holds every ImageCache, prepared for matching.
type View struct {
	mu     sync.RWMutex
	caches map[wish.Owner]*Cache // guarded by mu; values are immutable
	list   []*wish.Cache         // guarded by mu; rebuilt when nil, never changed in place
}

// Cache is an ImageCache as last seen.
type Cache struct {
	*wish.Cache
	// Errs are the parts of the spec that could not be used.
	Errs field.ErrorList
	// LetsGo says that the cache is being deleted and its images stay on the nodes.
	LetsGo bool
	// Unsupported says which part of the spec this release cannot act on, "" when it can
	// act on all of it. Such a cache counts as Suspended: acting on the rest would do what
	// was not asked for.
	Unsupported string
	// Rollout says that nodes are let in to a change one by one.
	Rollout bool

	uid        string
	generation int64
	deleting   bool
	before     *wish.Cache // as it stood before the last edit that was seen; may be nil
}

// NewView makes an empty view.
func NewView() *View {
	return &View{caches: map[wish.Owner]*Cache{}}
}

// Put takes in an ImageCache as it stands now.
func (v *View) Put(ic *v1alpha1.ImageCache) {
	owner := wish.OwnerOf(ic)
	v.mu.Lock()
	defer v.mu.Unlock()
	last := v.caches[owner]
	if last != nil && last.Shows(ic) {
		return
	}
	deleting := ic.DeletionTimestamp != nil
	why := unsupported(ic)
	if why != "" && ic.Spec.State != v1alpha1.StatePurged {
		ic = ic.DeepCopy()
		ic.Spec.State = v1alpha1.StateSuspended
	}
	compiled, errs := wish.Compile(ic)
	v.caches[owner] = &Cache{
		Cache: compiled, Errs: errs, Unsupported: why, Rollout: ic.Spec.Rollout != nil,
		LetsGo: deleting && ic.Spec.DeletionPolicy != v1alpha1.DeletionRemove,
		uid:    string(ic.UID), generation: ic.Generation, deleting: deleting,
	}
	if last != nil && last.uid == string(ic.UID) {
		v.caches[owner].before = last.Cache
	}
	v.list = nil
}

// Shows says whether the ImageCache stands as it is in the view. It does not while an event
// is on its way.
func (c *Cache) Shows(ic *v1alpha1.ImageCache) bool {
	return c.uid == string(ic.UID) && c.generation == ic.Generation && c.deleting == (ic.DeletionTimestamp != nil)
}

func unsupported(ic *v1alpha1.ImageCache) string {
	if ic.Spec.Resolve == v1alpha1.ResolveNode {
		return "spec.resolve: Node is not supported by this release: set it to Controller"
	}
	return ""
}

// Delete drops an ImageCache.
func (v *View) Delete(owner wish.Owner) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.caches, owner)
	v.list = nil
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
