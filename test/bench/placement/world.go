package placement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/toolchain"
	"edgecache.dev/test/product"
)

// world is the API server with the scheduler, and what was last written to it.
type world struct {
	lab  *cluster.Cluster
	kube kubernetes.Interface
	edge *versioned.Clientset
	pods *pods
	stop context.CancelFunc // of what watches

	mu       sync.Mutex
	written  map[string]string // what each object was last set to
	contents map[string]string // ImageContents that are there
	standing map[string]string // pods that are there, and what of
	renewed  time.Time         // agents' Leases
}

// newWorld starts everything but the nodes.
func newWorld(ctx context.Context, all []variant) (_ *world, err error) {
	tools, err := toolchain.Here(os.Stderr)
	if err != nil {
		return nil, err
	}
	scheduler, err := tools.Product(ctx, "edgecache-scheduler", toolchain.Build{})
	if err != nil {
		return nil, err
	}
	lab, err := cluster.Start(ctx, cluster.Options{
		// Nobody grants pods service accounts, and no kubelet takes the taint of new nodes away.
		APIServerArgs: []string{"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"},
		Tools:         tools, Out: os.Stderr,
	})
	if err != nil {
		return nil, err
	}
	w := &world{lab: lab, kube: lab.Client(), stop: func() {}, written: map[string]string{}, contents: map[string]string{}, standing: map[string]string{}}
	if err := w.start(ctx, scheduler, all); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) start(ctx context.Context, scheduler string, all []variant) (err error) {
	if w.edge, err = versioned.NewForConfig(w.lab.ControlPlane().Admin()); err != nil {
		return fmt.Errorf("making client: %w", err)
	}
	if err := product.Prepare(ctx, w.lab); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	w.stop = stop
	if w.pods, err = watchPods(watching, w.kube); err != nil {
		return err
	}
	kubeconfig, err := w.lab.ControlPlane().Kubeconfig("study-scheduler", "system:masters")
	if err != nil {
		return err
	}
	config := filepath.Join(w.lab.Dir(), "study-scheduler.yaml")
	if err := os.WriteFile(config, []byte(schedulerConfig(kubeconfig, all)), 0o600); err != nil {
		return fmt.Errorf("writing the scheduler's configuration: %w", err)
	}
	_, err = w.lab.Run("edgecache-scheduler", []string{scheduler, "--config=" + config, "--secure-port=0", "-v=2"})
	return err
}

func (w *world) close() error {
	w.stop()
	return w.lab.Close()
}

// changed says whether an object is to be written, and remembers it as written.
func (w *world) changed(key string, value any) (text []byte, changed bool, err error) {
	if text, err = json.Marshal(value); err != nil {
		return nil, false, fmt.Errorf("encoding %s: %w", key, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	changed = w.written[key] != string(text)
	w.written[key] = string(text)
	return text, changed, nil
}

// setNode makes a Node what it should be: spec by a patch of metadata, then status.
func (w *world) setNode(ctx context.Context, want *corev1.Node) error {
	if err := w.setLabels(ctx, want); err != nil {
		return err
	}
	return w.setNodeStatus(ctx, want.Name, want.Status)
}

func (w *world) setLabels(ctx context.Context, want *corev1.Node) error {
	text, changed, err := w.changed("node/"+want.Name, map[string]any{"metadata": map[string]any{"labels": want.Labels}})
	if err != nil || !changed {
		return err
	}
	nodes := w.kube.CoreV1().Nodes()
	if _, err = nodes.Patch(ctx, want.Name, types.MergePatchType, text, metav1.PatchOptions{}); apierrors.IsNotFound(err) {
		_, err = nodes.Create(ctx, &corev1.Node{ObjectMeta: want.ObjectMeta}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("writing Node %s: %w", want.Name, err)
	}
	return nil
}

func (w *world) setNodeStatus(ctx context.Context, name string, status corev1.NodeStatus) error {
	text, changed, err := w.changed("node/"+name+"/status", map[string]any{"status": status})
	if err != nil || !changed {
		return err
	}
	if _, err := w.kube.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, text, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("writing the status of Node %s: %w", name, err)
	}
	return nil
}

// setCache makes a NodeImageCache what it should be.
func (w *world) setCache(ctx context.Context, name string, spec v1alpha1.NodeImageCacheSpec, status v1alpha1.NodeImageCacheStatus) error {
	caches := w.edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace)
	// A merge patch takes no field away, and an empty list is none in the spec.
	text, changed, err := w.changed("cache/"+name, map[string]any{"spec": map[string]any{"images": spec.Images}})
	if err != nil {
		return err
	}
	if changed {
		_, err := caches.Patch(ctx, name, types.MergePatchType, text, metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			_, err = caches.Create(ctx, &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
		}
		if err != nil {
			return fmt.Errorf("writing NodeImageCache %s: %w", name, err)
		}
	}
	return w.setCacheStatus(ctx, name, status)
}

func (w *world) setCacheStatus(ctx context.Context, name string, status v1alpha1.NodeImageCacheStatus) error {
	// All that the study changes is named, so that nothing of an earlier run stays.
	text, changed, err := w.changed("cache/"+name+"/status", map[string]any{"status": map[string]any{
		"observedGeneration": status.ObservedGeneration, "platform": status.Platform, "agentVersion": status.AgentVersion, "runtime": status.Runtime,
		"registries": status.Registries, "images": status.Images, "otherImages": status.OtherImages, "unpackBytesPerSecond": status.UnpackBytesPerSecond,
	}})
	if err != nil || !changed {
		return err
	}
	caches := w.edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace)
	if _, err := caches.Patch(ctx, name, types.MergePatchType, text, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("writing the status of NodeImageCache %s: %w", name, err)
	}
	return nil
}

// setContents makes the ImageContents those of a run.
func (w *world) setContents(ctx context.Context, want map[string]*v1alpha1.ImageContent) error {
	api := w.edge.EdgecacheV1alpha1().ImageContents()
	texts := map[string]string{}
	for name, c := range want {
		text, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("encoding ImageContent %s: %w", name, err)
		}
		texts[name] = string(text)
	}
	for name, text := range w.contents {
		if texts[name] == text {
			delete(want, name)
			continue
		}
		if err := api.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("deleting ImageContent: %w", err)
		}
	}
	for _, c := range want {
		if _, err := api.Create(ctx, c, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making ImageContent: %w", err)
		}
	}
	w.contents = texts
	return nil
}

// renewEvery keeps the agents' Leases fresh by the scheduler's clock, which is the only real one in the study.
const renewEvery = 2 * time.Minute

func (w *world) renew(ctx context.Context, nodes []*node) error {
	if time.Since(w.renewed) < renewEvery {
		return nil
	}
	w.renewed = time.Now()
	leases := w.kube.CoordinationV1().Leases(v1alpha1.SystemNamespace)
	return each(nodes, func(n *node) error {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AgentLeaseName(n.name)}}
		lease.Spec = coordinationv1.LeaseSpec{
			HolderIdentity: new(n.name), LeaseDurationSeconds: new(int32(600)), RenewTime: new(metav1.NewMicroTime(w.renewed)),
		}
		text, err := json.Marshal(map[string]any{"spec": lease.Spec})
		if err != nil {
			return fmt.Errorf("encoding a Lease: %w", err)
		}
		if _, err = leases.Patch(ctx, lease.Name, types.MergePatchType, text, metav1.PatchOptions{}); apierrors.IsNotFound(err) {
			_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
		}
		if err != nil {
			return fmt.Errorf("renewing the Lease of %s: %w", n.name, err)
		}
		return nil
	})
}

// each calls do for all items, some at a time.
func each[T any](items []T, do func(T) error) error {
	const atOnce = 8
	var wg sync.WaitGroup
	errs, work := make([]error, atOnce), make(chan T)
	for i := range errs {
		wg.Go(func() {
			for item := range work {
				errs[i] = errors.Join(errs[i], do(item))
			}
		})
	}
	for _, item := range items {
		work <- item
	}
	close(work)
	wg.Wait()
	return errors.Join(errs...)
}
