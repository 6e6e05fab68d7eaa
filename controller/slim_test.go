package controller

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

func object() *v1alpha1.NodeImageCache {
	o := &v1alpha1.NodeImageCache{}
	o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
	o.Spec.Images = []v1alpha1.NodeImage{{Name: strings.Clone("r.io/app:v1"), Digest: strings.Clone("sha256:1"), Owners: []string{strings.Clone("ns/a")}}}
	o.Status.Images = []v1alpha1.NodeImageStatus{{Name: strings.Clone("r.io/app:v1"), Digest: strings.Clone("sha256:1"), Phase: v1alpha1.PhaseCached}}
	return o
}

func TestObjectsShareStrings(t *testing.T) {
	t.Parallel()
	a, b, want := object(), object(), object()
	for _, o := range []*v1alpha1.NodeImageCache{a, b} {
		if _, err := slim(o); err != nil {
			t.Fatal(err)
		}
	}
	want.ManagedFields = nil
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("slim changed more than managed fields (-want +got):\n%s", diff)
	}
	for _, pair := range [][2]string{
		{a.Spec.Images[0].Name, b.Status.Images[0].Name}, {a.Spec.Images[0].Digest, b.Spec.Images[0].Digest}, {a.Spec.Images[0].Owners[0], b.Spec.Images[0].Owners[0]},
	} {
		if unsafe.StringData(pair[0]) != unsafe.StringData(pair[1]) {
			t.Errorf("two copies of %q", pair[0])
		}
	}
}

func TestNodesAreSlim(t *testing.T) {
	t.Parallel()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}}}
	n.Status.Images = []corev1.ContainerImage{{Names: []string{"x"}}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeDiskPressure}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue, Message: "long"}}
	n.Status.NodeInfo = corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "arm64", KernelVersion: "6"}
	if _, err := slim(n); err != nil {
		t.Fatal(err)
	}
	want := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"a": "b"}}}
	want.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	want.Status.NodeInfo = corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "arm64"}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
}
