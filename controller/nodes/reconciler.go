package nodes

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	typedv1alpha1 "edgecache.dev/api/client/clientset/versioned/typed/api/v1alpha1"
	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/keyloop"
)

// IndexOwner is the name of the index that finds the NodeImageCaches with an image of an
// owner ("namespace/name").
const IndexOwner = "owner"

// OwnersOf lists the owners of a NodeImageCache's images, for IndexOwner.
func OwnersOf(obj any) ([]string, error) {
	nic, ok := obj.(*v1alpha1.NodeImageCache)
	if !ok {
		return nil, fmt.Errorf("indexing owners: got %T, want *NodeImageCache", obj)
	}
	seen := map[string]bool{}
	var owners []string
	for i := range nic.Spec.Images {
		for _, o := range nic.Spec.Images[i].Owners {
			if !seen[o] {
				seen[o] = true
				owners = append(owners, o)
			}
		}
	}
	return owners, nil
}

// Indexers for the NodeImageCache informer.
func Indexers() cache.Indexers { return cache.Indexers{IndexOwner: OwnersOf} }

// Sizes knows how many bytes a node of a platform downloads for a digest.
type Sizes interface {
	Size(d digest.Digest, platform string) int64
}

// Gates know which nodes may take part in a change.
type Gates interface {
	// Holds says whether an owner does not yet let a node of a site in to a digest.
	Holds(owner wish.Owner, node, site string, ref imageref.Reference, target digest.Digest) bool
}

// Sites know what tags stand for where nodes resolve them.
type Sites interface {
	Digest(site string, ref imageref.Reference) (d digest.Digest, drifted bool)
}

// Reconciler writes the specs of NodeImageCaches. All fields are required.
type Reconciler struct {
	Nodes   corelisters.NodeLister
	Objects listers.NodeImageCacheNamespaceLister
	Client  typedv1alpha1.NodeImageCacheInterface
	// Update writes an object, with the resource version that it was read at.
	Update func(context.Context, *v1alpha1.NodeImageCache) error
	View   *fleet.View
	// Sandbox gives what a node is to hold without any ImageCache's asking, nil for nothing.
	Sandbox func(*v1alpha1.NodeImageCache) *wish.Cache
	Leases  *fleet.LeaseClock
	Targets Targets
	Sites   Sites
	Sizes   Sizes
	Gates   Gates
	Clock   clock.PassiveClock
	// Credentials are sealed by Seal while MaySeal says so.
	Credentials Credentials
	Seal        Seal
	MaySeal     func() bool
	// Grace is how long images stay on a node whose labels no longer match.
	Grace time.Duration
	// Wrote is told of each write: create, update or delete.
	Wrote func(verb string)
}

// Sync brings the NodeImageCache of one node in line with the node and the wishes for it.
// It asks to be called again when the Lease of the node's agent runs out or an image is to
// leave.
func (r *Reconciler) Sync(ctx context.Context, name string) (time.Duration, error) {
	node, err := r.Nodes.Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("reading node %s: %w", name, err)
	}
	object, err := r.Objects.Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("reading NodeImageCache %s: %w", name, err)
	}
	if node == nil {
		return 0, r.drop(ctx, object)
	}
	now := r.Clock.Now()
	_, next := r.Leases.Fresh(name, now)
	if object != nil {
		next = keyloop.Sooner(next, nextLeave(&object.Spec, now))
	}
	return next, r.bring(ctx, node, object)
}

func (r *Reconciler) bring(ctx context.Context, node *corev1.Node, object *v1alpha1.NodeImageCache) error {
	switch {
	case object == nil && wish.Eligible(node):
		return r.create(ctx, node)
	case object == nil:
		return nil
	case !ownedBy(object, node):
		// The Node was deleted and made again. Its new life begins with an empty object,
		// which tells the agent that the wish is unknown.
		return r.drop(ctx, object)
	}
	return r.update(ctx, node, object)
}

func (r *Reconciler) create(ctx context.Context, node *corev1.Node) error {
	object := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{
		Name:      node.Name,
		Namespace: v1alpha1.SystemNamespace,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID,
		}},
	}}
	if _, err := r.Client.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating NodeImageCache %s: %w", node.Name, err)
	}
	r.Wrote("create")
	return nil
}

func (r *Reconciler) update(ctx context.Context, node *corev1.Node, object *v1alpha1.NodeImageCache) error {
	platform, site := platformOf(node, object), fleet.OwnSite(node)
	spec := plan(planInput{
		nodeUID: string(node.UID),
		object:  object,
		wish:    wish.For(node, r.wishes(object), object.Spec.Images),
		targets: r.Targets,
		atSite: func(ref imageref.Reference) digest.Digest {
			d, _ := r.Sites.Digest(site, ref)
			return d
		},
		ask:     r.View.Ask,
		size:    func(d digest.Digest) int64 { return r.Sizes.Size(d, platform) },
		gaveUp:  r.View.GaveUp,
		strayed: func(o wish.Owner, ref imageref.Reference) bool { return r.View.Strayed(o, ref, node) },
		grace:   r.Grace,
		holds: func(o wish.Owner, ref imageref.Reference, d digest.Digest) bool {
			return r.Gates.Holds(o, node.Name, site, ref, d)
		},
		sealer: &sealer{
			key: object.Status.Key, allowed: r.MaySeal(), nodeUID: string(node.UID), find: r.Credentials, seal: r.Seal,
		},
		now: r.Clock.Now(),
	})
	if equality.Semantic.DeepEqual(spec, object.Spec) {
		return nil
	}
	changed := object.DeepCopy()
	changed.Spec = spec
	if err := r.Update(ctx, changed); err != nil {
		return fmt.Errorf("writing spec of NodeImageCache %s: %w", node.Name, err)
	}
	r.Wrote("update")
	klog.FromContext(ctx).V(2).Info("Wrote wish", "node", node.Name, "images", len(spec.Images), "remove", len(spec.Remove))
	return nil
}

// wishes gives all that may be wished of a node.
func (r *Reconciler) wishes(object *v1alpha1.NodeImageCache) []*wish.Cache {
	all := r.View.All()
	if w := r.Sandbox(object); w != nil {
		return append(slices.Clip(all), w)
	}
	return all
}

// drop deletes an object whose Node is gone. The garbage collector would do it too; where
// it is slow or absent the object must not be taken for a new Node's.
func (r *Reconciler) drop(ctx context.Context, object *v1alpha1.NodeImageCache) error {
	if object == nil || object.DeletionTimestamp != nil {
		return nil
	}
	err := r.Client.Delete(ctx, object.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &object.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting NodeImageCache %s of a node that is gone: %w", object.Name, err)
	}
	r.Wrote("delete")
	return nil
}

func ownedBy(object *v1alpha1.NodeImageCache, node *corev1.Node) bool {
	for _, o := range object.OwnerReferences {
		if o.Kind == "Node" && o.UID == node.UID {
			return true
		}
	}
	return false
}

// platformOf prefers what the agent found out: the Node object knows no variant.
func platformOf(node *corev1.Node, object *v1alpha1.NodeImageCache) string {
	if object.Status.Platform != "" {
		return object.Status.Platform
	}
	info := &node.Status.NodeInfo
	if info.Architecture == "" {
		return ""
	}
	return info.OperatingSystem + "/" + info.Architecture
}
