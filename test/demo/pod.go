package main

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startPod starts a pod from a cached image while the registry is stopped.
func (d *demo) startPod(ctx context.Context) error {
	d.headline("Stop the registry, then start a pod that uses pos",
		"The image is on the node, so the kubelet has nothing to pull.")
	if err := d.lab.Registry().Stop(); err != nil {
		return err
	}
	d.verified("the registry is stopped")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pos", Namespace: "default"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "pos", Image: namesOf(d.pos)[0]}}},
	}
	pods := d.lab.Client().CoreV1().Pods("default")
	if err := d.await(ctx, "the pod is accepted", func() (bool, error) {
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		return err == nil || apierrors.IsAlreadyExists(err), err
	}); err != nil {
		return err
	}
	if err := d.await(ctx, "the pod is Running", func() (bool, error) {
		p, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		return err == nil && p.Status.Phase == corev1.PodRunning, err
	}); err != nil {
		return err
	}
	return d.await(ctx, "the kubelet says: already present on machine", func() (bool, error) {
		events, err := d.lab.Client().CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name})
		if err != nil {
			return false, fmt.Errorf("listing events: %w", err)
		}
		for _, e := range events.Items {
			if strings.Contains(e.Message, "already present on machine") {
				d.say("     %s", e.Message)
				return true, nil
			}
		}
		return false, nil
	})
}
