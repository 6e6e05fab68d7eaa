package schedulerplugin

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/scheduler-plugin/args"
	"edgecache.dev/scheduler-plugin/inventory"
)

// watched has one inventory for each scheduler in this process: its profiles share it, as they share the scheduler's
// informers.
var watched = inventories{of: map[informers.SharedInformerFactory]*inventory.Inventory{}}

type inventories struct {
	mu sync.Mutex
	of map[informers.SharedInformerFactory]*inventory.Inventory // guarded by mu
}

// take gives the scheduler's inventory. The first profile's settings say what holds where nothing is measured.
func (m *inventories) take(ctx context.Context, settings *args.ImageCacheLocalityArgs, handle fwk.Handle) (*inventory.Inventory, error) {
	factory := handle.SharedInformerFactory()
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.of[factory]; known != nil {
		return known, nil
	}
	known := inventory.New(inventory.Options{
		BytesPerSecond: settings.DefaultBytesPerSecond, UnpackBytesPerSecond: settings.DefaultUnpackBytesPerSecond,
	})
	if err := feed(ctx, known, handle); err != nil {
		return nil, err
	}
	m.of[factory] = known
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.of, factory)
	})
	return known, nil
}

// feed begins to keep the inventory up to date.
func feed(ctx context.Context, known *inventory.Inventory, handle fwk.Handle) error {
	edge, err := versioned.NewForConfig(jsonConfig(handle.KubeConfig()))
	if err != nil {
		return fmt.Errorf("client for edgecache.dev: %w", err)
	}
	core := handle.SharedInformerFactory().Core().V1()
	if _, err := core.Nodes().Informer().AddEventHandler(nodeHandler(known)); err != nil {
		return fmt.Errorf("watching Nodes: %w", err)
	}
	if _, err := core.Pods().Informer().AddEventHandler(podHandler(known)); err != nil {
		return fmt.Errorf("watching Pods: %w", err)
	}
	go known.Feed(ctx, edge, handle.ClientSet())
	return nil
}

// jsonConfig is for custom resources: kube-scheduler's own clients speak protobuf, which these do not have.
func jsonConfig(config *rest.Config) *rest.Config {
	out := rest.CopyConfig(config)
	out.ContentType, out.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	return out
}

func nodeHandler(known *inventory.Inventory) cache.ResourceEventHandler {
	set := func(obj any) {
		if node, ok := obj.(*corev1.Node); ok {
			known.SetNode(node)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
				known.ForgetNode(name)
			}
		},
	}
}

// podHandler forgets what was promised for pods that run or are gone.
func podHandler(known *inventory.Inventory) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, obj any) {
			if pod, ok := obj.(*corev1.Pod); ok && pod.Status.Phase != corev1.PodPending {
				known.Done(pod.UID)
			}
		},
		DeleteFunc: func(obj any) { known.Done(uidOf(obj)) },
	}
}

// gone forgets refused pods that are deleted.
func (p *Plugin) gone() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) { p.waiting.remove(uidOf(obj)) }}
}

// uidOf is that of a pod that was deleted, also when that was missed.
func uidOf(obj any) types.UID {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		return pod.UID
	}
	return ""
}
