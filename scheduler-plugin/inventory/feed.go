package inventory

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
)

// Feed keeps the Inventory up to date until ctx is done. It never fails: what cannot be read is tried again, at most half
// a minute later. Custom resources that are not installed yet are such a case.
func (v *Inventory) Feed(ctx context.Context, edge versioned.Interface, kube kubernetes.Interface) {
	caches := edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace)
	contents := edge.EdgecacheV1alpha1().ImageContents()
	leases := kube.CoordinationV1().Leases(v1alpha1.SystemNamespace)
	var group sync.WaitGroup
	group.Go(func() {
		follow(ctx, "NodeImageCaches", &v1alpha1.NodeImageCache{}, listWatch(caches.List, caches.Watch),
			&sink[*v1alpha1.NodeImageCache]{set: v.SetCache, forget: v.ForgetCache, synced: &v.synced[0]})
	})
	group.Go(func() {
		follow(ctx, "ImageContents", &v1alpha1.ImageContent{}, listWatch(contents.List, contents.Watch), &sink[*v1alpha1.ImageContent]{
			set: v.SetContent, synced: &v.synced[1],
			forget: func(name string) { v.ForgetContent(v1alpha1.ContentDigest(name).String()) },
		})
	})
	group.Go(func() {
		follow(ctx, "Leases", &coordinationv1.Lease{}, listWatch(leases.List, leases.Watch),
			&sink[*coordinationv1.Lease]{set: v.SetLease, forget: v.ForgetLease, synced: &v.synced[2]})
	})
	group.Go(func() { v.Run(ctx) })
	group.Wait()
}

func listWatch[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error),
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) },
		WatchFuncWithContext: watch,
	}
}

// sink takes objects in and keeps no more of them than their names.
type sink[T metav1.Object] struct {
	set    func(T)
	forget func(name string)
	synced *atomic.Bool
	read   func() // called when all objects were read
	names  map[string]bool
}

var errType = errors.New("object of another type")

// Add implements cache.ReflectorStore.
func (s *sink[T]) Add(obj any) error {
	object, ok := obj.(T)
	if !ok {
		return errType
	}
	if s.names == nil {
		s.names = map[string]bool{}
	}
	s.names[object.GetName()] = true
	s.set(object)
	return nil
}

// Update implements cache.ReflectorStore.
func (s *sink[T]) Update(obj any) error { return s.Add(obj) }

// Delete implements cache.ReflectorStore.
func (s *sink[T]) Delete(obj any) error {
	object, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	delete(s.names, object.GetName())
	s.forget(object.GetName())
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *sink[T]) Replace(objects []any, _ string) error {
	before := s.names
	s.names = make(map[string]bool, len(objects))
	for _, obj := range objects {
		if err := s.Add(obj); err != nil {
			return err
		}
	}
	for name := range before {
		if !s.names[name] {
			s.forget(name)
		}
	}
	s.synced.Store(true)
	if s.read != nil {
		s.read()
	}
	return nil
}

// Resync implements cache.ReflectorStore: nothing is sent again.
func (s *sink[T]) Resync() error { return nil }

// follow lists and watches until ctx is done. What is wrong is logged when it begins and when it ends, not at each try.
func follow[T metav1.Object](ctx context.Context, what string, example runtime.Object, lw cache.ListerWatcher, s *sink[T]) {
	logger := klog.FromContext(ctx)
	reflector := cache.NewReflectorWithOptions(lw, example, s, cache.ReflectorOptions{Name: "edgecache/" + what})
	backoff, failing := freshBackoff(), false
	s.read = func() {
		if failing {
			logger.Info("Reading again", "what", what)
		}
		failing, backoff = false, freshBackoff()
	}
	for ctx.Err() == nil {
		err := reflector.ListAndWatchWithContext(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			failing = true
			logger.Info("Cannot read, will go on trying; until then what was last known counts", "what", what, "installed", !absent(err), "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Step()):
		}
	}
}

func freshBackoff() wait.Backoff {
	return wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 30 * time.Second}
}

// absent says whether the kind of object is not known to the API server.
func absent(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }
