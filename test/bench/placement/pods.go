package placement

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	namespace = metav1.NamespaceDefault
	// patience is how long the scheduler may take for a pod, on a busy machine.
	patience = 2 * time.Minute
)

// pods makes pods and hears where the scheduler puts them.
type pods struct {
	kube kubernetes.Interface

	mu    sync.Mutex
	heard map[string]chan string // by pod, with room for its node

	owning sync.Mutex
	owners map[string]types.UID // ReplicaSets by name
}

func watchPods(ctx context.Context, kube kubernetes.Interface) (*pods, error) {
	p := &pods{kube: kube, heard: map[string]chan string{}, owners: map[string]types.UID{}}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Pods().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: p.hear, UpdateFunc: func(_, object any) { p.hear(object) },
	}); err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, fmt.Errorf("watching pods: %w", context.Cause(ctx))
	}
	return p, nil
}

// hear tells whoever waits for the pod where it goes, once.
func (p *pods) hear(object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if waiting := p.heard[pod.Name]; waiting != nil {
		delete(p.heard, pod.Name)
		waiting <- pod.Spec.NodeName
	}
}

// place makes a pod and gives the node that the scheduler chose.
func (p *pods) place(ctx context.Context, name string, i *image, scheduler string) (string, error) {
	pod, err := p.pod(ctx, name, i)
	if err != nil {
		return "", err
	}
	pod.Spec.SchedulerName = scheduler
	waiting := make(chan string, 1)
	p.mu.Lock()
	p.heard[name] = waiting
	p.mu.Unlock()
	if _, err := p.kube.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("making pod %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case n := <-waiting:
		return n, nil
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for the scheduler to place pod %s: %w", name, context.Cause(ctx))
	}
}

// put makes a pod that runs on a node already.
func (p *pods) put(ctx context.Context, name string, i *image, on string) error {
	pod, err := p.pod(ctx, name, i)
	if err != nil {
		return err
	}
	pod.Spec.NodeName = on
	if _, err := p.kube.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making pod %s: %w", name, err)
	}
	return p.ready(ctx, name)
}

// fill makes a pod of no application that takes CPU on a node.
func (p *pods) fill(ctx context.Context, name, on string, milliCPU int64) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: on, Containers: []corev1.Container{
		container(registryHost+"/other:v1", milliCPU, milliCPU),
	}}}
	if _, err := p.kube.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making pod %s: %w", name, err)
	}
	return p.ready(ctx, name)
}

func container(image string, milliCPU, megabytes int64) corev1.Container {
	return corev1.Container{Name: "main", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(milliCPU, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(megabytes*megabyte, resource.DecimalSI),
		},
	}}
}

// pod is one of a Deployment: its ReplicaSet owns it, so the scheduler spreads the pods of a version as it does by default.
func (p *pods) pod(ctx context.Context, name string, i *image) (*corev1.Pod, error) {
	owner, labels, err := p.owner(ctx, i)
	if err != nil {
		return nil, err
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, OwnerReferences: []metav1.OwnerReference{owner}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{container(i.name(), podMilliCPU, podMegabytes)}},
	}, nil
}

func (p *pods) owner(ctx context.Context, i *image) (metav1.OwnerReference, map[string]string, error) {
	app := i.repository[len(registryHost)+1:]
	labels := map[string]string{"app": app, appsv1.DefaultDeploymentUniqueLabelKey: i.tag}
	ref := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-" + i.tag, Controller: new(true)}
	p.owning.Lock()
	defer p.owning.Unlock()
	if ref.UID = p.owners[ref.Name]; ref.UID != "" {
		return ref, labels, nil
	}
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: ref.Name}, Spec: appsv1.ReplicaSetSpec{
		Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{container(i.name(), podMilliCPU, podMegabytes)}}},
	}}
	made, err := p.kube.AppsV1().ReplicaSets(namespace).Create(ctx, set, metav1.CreateOptions{})
	if err != nil {
		return ref, nil, fmt.Errorf("making ReplicaSet %s: %w", ref.Name, err)
	}
	ref.UID = made.UID
	p.owners[ref.Name] = made.UID
	return ref, labels, nil
}

// ready is what a kubelet says when the pod runs.
func (p *pods) ready(ctx context.Context, name string) error {
	patch := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
	if _, err := p.kube.CoreV1().Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("marking pod %s ready: %w", name, err)
	}
	return nil
}

func (p *pods) remove(ctx context.Context, name string) error {
	err := p.kube.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting pod %s: %w", name, err)
	}
	return nil
}
