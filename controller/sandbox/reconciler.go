package sandbox

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"

	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/resolution"
)

const (
	// newEvery is how often a further image may begin to count, once maxImages did: an agent
	// that reports another one each time has six an hour looked up.
	newEvery = 10 * time.Minute
	// askAgain is when those that wait are looked at again.
	askAgain = time.Minute
)

// Table is what is needed of the resolution table.
type Table interface {
	Take(resolution.Interest) []resolution.Key
	Target(imageref.Reference) digest.Digest
	Known(imageref.Reference, wish.Owner) (digest.Digest, *v1alpha1.ImageCheck)
}

// Reconciler decides which sandbox images count.
type Reconciler struct {
	objects listers.NodeImageCacheNamespaceLister
	table   Table
	lookUp  func(resolution.Key)
	touch   func(node string)
	allowed func() bool

	mu       sync.RWMutex
	counting map[imageref.Reference]*wish.Cache // guarded by mu; replaced, never changed in place
}

// New makes a reconciler to which no image counts yet. It asks for keys to be looked up and
// for nodes' specs to be worked out again.
func New(objects listers.NodeImageCacheNamespaceLister, table Table, lookUp func(resolution.Key), touch func(node string)) *Reconciler {
	limit := flowcontrol.NewTokenBucketPassiveRateLimiter(float32(1/newEvery.Seconds()), maxImages)
	return &Reconciler{objects: objects, table: table, lookUp: lookUp, touch: touch, allowed: limit.TryAccept}
}

// For gives the wish of a node for its sandbox image, nil when there is none: the image does
// not count, or its registry never gave it.
func (r *Reconciler) For(object *v1alpha1.NodeImageCache) *wish.Cache {
	ref := reported(object)
	r.mu.RLock()
	w := r.counting[ref]
	r.mu.RUnlock()
	if w == nil || r.found(ref) == "" {
		return nil
	}
	return w
}

// found gives the digest that was found for an image, "" while there is none.
func (r *Reconciler) found(ref imageref.Reference) digest.Digest {
	d, _ := r.table.Known(ref, v1alpha1.OwnerSandboxImage)
	return d
}

// Prime takes in what nodes report and what their specs have, before any spec is worked out.
func (r *Reconciler) Prime() error {
	_, _, err := r.take()
	return err
}

// Sync takes in what nodes report, and has the specs worked out again that are other than
// they should be.
func (r *Reconciler) Sync(ctx context.Context, _ struct{}) (time.Duration, error) {
	objects, waits, err := r.take()
	if err != nil {
		return 0, err
	}
	for _, o := range objects {
		var want digest.Digest
		if r.For(o) != nil {
			want = r.found(reported(o))
		}
		if differs(o, reported(o), want) {
			r.touch(o.Name)
		}
	}
	if !waits {
		return 0, nil
	}
	klog.FromContext(ctx).V(1).Info("Nodes report new sandbox images faster than they are taken in")
	return askAgain, nil
}

// take chooses the images that count and has those looked up that are not known. waits says
// whether one is to be taken in later.
func (r *Reconciler) take() (objects []*v1alpha1.NodeImageCache, waits bool, err error) {
	if objects, err = r.objects.List(labels.Everything()); err != nil {
		return nil, false, fmt.Errorf("listing NodeImageCaches: %w", err)
	}
	r.mu.RLock()
	before := r.counting
	r.mu.RUnlock()
	counts := func(ref imageref.Reference) bool { return before[ref] != nil }
	chosen, waits := choose(rank(objects, counts), counts, r.allowed)
	now := map[imageref.Reference]*wish.Cache{}
	for _, ref := range chosen {
		if now[ref] = before[ref]; now[ref] == nil {
			now[ref] = wish.Sandbox(ref)
		}
	}
	if maps.Equal(before, now) {
		return objects, waits, nil
	}
	r.ask(chosen, objects)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counting = now
	return objects, waits, nil
}

// ask tells the table which images count. What stands in specs was found before.
func (r *Reconciler) ask(chosen []imageref.Reference, objects []*v1alpha1.NodeImageCache) {
	interest := resolution.Interest{
		Owner: v1alpha1.OwnerSandboxImage, Images: chosen,
		Again: func(imageref.Reference) bool { return false },
	}
	for _, ref := range chosen {
		d := written(objects, ref)
		if now := r.table.Target(ref); d != "" && now != "" {
			d = now // an ImageCache asks for it too
		}
		if d != "" {
			interest.Known = append(interest.Known, v1alpha1.ImageStatus{
				Name: ref.String(), Digest: d.String(), Check: &v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable},
			})
		}
	}
	for _, key := range r.table.Take(interest) {
		r.lookUp(key)
	}
}
