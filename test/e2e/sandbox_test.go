package e2e

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
)

// keepsSandboxImage checks that a node's sandbox image, known from its first pod, is cached
// and comes back when it is removed. The pod's own image is on no node yet.
func (w *world) keepsSandboxImage(n *node.Node) {
	w.Helper()
	pods := w.lab.Client().CoreV1().Pods("default")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "first"},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: n.Name()},
			Containers:   []corev1.Container{{Name: "main", Image: "none.example/none:v1", ImagePullPolicy: corev1.PullNever}},
		},
	}
	w.eventually("the pod is accepted", func() error {
		_, err := pods.Create(w.Context(), pod, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // a try before whose answer was lost
			return nil
		}
		return err
	})
	var pause testimage.Pushed
	w.eventually(n.Name()+" is to hold its sandbox image, and does", func() error {
		nic, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(w.Context(), n.Name(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(nic.Status.Images) != 1 || nic.Status.Images[0].Phase != v1alpha1.PhaseCached {
			return fmt.Errorf("runtime %+v, wish %+v, images %+v", nic.Status.Runtime, nic.Spec.Images, nic.Status.Images)
		}
		image := nic.Status.Images[0]
		repository := strings.TrimSuffix(image.Name, ":1")
		pause = testimage.Pushed{Name: image.Name, Repository: repository, Digest: image.Digest}
		return nil
	})
	if !strings.HasSuffix(pause.Repository, "/lab/pause") {
		w.Errorf("the sandbox image is %s, want lab/pause:1 of the lab's registry", pause.Name)
	}
	w.expectCached(n, pause)
	w.remove(n, pause)
	w.expectCached(n, pause)
	if err := pods.Delete(w.Context(), "first", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		w.Fatal(err)
	}
}

// expectNoRequests checks that the registry served nothing, but for the sandbox image that
// a node may just have told of.
func (w *world) expectNoRequests() {
	w.Helper()
	served := w.lab.Registry().Requests().Where(func(r registry.Request) bool { return r.Repository != "lab/pause" })
	if len(served) != 0 {
		w.Errorf("the registry served %d requests: %+v", len(served), served)
	}
}
