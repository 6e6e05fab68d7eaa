package integration

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
)

// testWorstCases stores the largest objects that the limits allow: what the schema lets
// through must fit into etcd (1.5 MiB a request), and a NodeImageCache into 1 MiB.
func testWorstCases(t *testing.T, lab *cluster.Cluster) {
	client := versioned.NewForConfigOrDie(lab.ControlPlane().Admin()).EdgecacheV1alpha1()
	if _, err := newKubectl(t, lab).apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+v1alpha1.SystemNamespace+"}}"); err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("registry.example/%0*d:v1", 235, i) }
	digest := "sha256:" + hex64

	t.Run("ImageCache with 1,000 references", func(t *testing.T) {
		t.Parallel()
		ic := &v1alpha1.ImageCache{ObjectMeta: metav1.ObjectMeta{Name: "worst", Namespace: "default"}}
		for i := range 2 {
			var list v1alpha1.CacheSpecImages
			for j := range 500 {
				list.Images = append(list.Images, v1alpha1.ImageReference(name(500*i+j)))
			}
			ic.Spec.CacheSpec = append(ic.Spec.CacheSpec, list)
		}
		ic, err := client.ImageCaches("default").Create(t.Context(), ic, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		worstStatus(&ic.Status, name, digest)
		if n := len(asJSON(ic.Status)); n < 700_000 || n > 768<<10 {
			t.Errorf("status of %d bytes, want nearly 768 KiB", n)
		}
		ic, err = client.ImageCaches("default").UpdateStatus(t.Context(), ic, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ic.ManagedFields = nil
		if n := len(asJSON(ic)); n > 1100<<10 {
			t.Errorf("%d bytes, at most 1,100 KiB", n)
		} else {
			t.Logf("%d bytes", n)
		}
		if got := ic.Status; len(got.Images) != 1000 || len(got.Failures) != 20 || got.Images[999].Check.Message != htmlOf(131) {
			t.Error("what was stored is not what was written")
		}
	})

	t.Run("NodeImageCache with 1,000 failing images", func(t *testing.T) {
		t.Parallel()
		nic := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "worst", Namespace: v1alpha1.SystemNamespace}}
		for i := range 1000 {
			nic.Spec.Images = append(nic.Spec.Images, v1alpha1.NodeImage{Name: name(i), Digest: digest, Size: 1 << 40, Owners: []string{"default/pos"}})
		}
		objects := client.NodeImageCaches(v1alpha1.SystemNamespace)
		nic, err := objects.Create(t.Context(), nic, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			nic.Status.Images = append(nic.Status.Images, v1alpha1.NodeImageStatus{
				Name: name(i), Digest: digest, Phase: v1alpha1.PhaseFailed, Reason: v1alpha1.ReasonInsufficientDisk,
				Message: strings.Repeat("m", 120), Attempts: 1000, Since: new(metav1.Now()),
			})
		}
		nic, err = objects.UpdateStatus(t.Context(), nic, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		nic.ManagedFields = nil
		if n := len(asJSON(nic)); n > 1<<20 {
			t.Errorf("%d bytes, at most 1 MiB", n)
		} else {
			t.Logf("%d bytes", n)
		}
	})

	t.Run("ImageContent with 32 platforms of 256 layers", func(t *testing.T) {
		t.Parallel()
		content := &v1alpha1.ImageContent{ObjectMeta: metav1.ObjectMeta{Name: "sha256-" + hex64[:63] + "0"}}
		for i := range 32 {
			content.Repositories = append(content.Repositories, name(i))
			p := v1alpha1.PlatformContent{OS: "linux", Architecture: "arm", Variant: strconv.Itoa(i), ManifestDigest: digest, ConfigDigest: digest, Size: 1 << 40}
			for range 256 {
				p.Layers = append(p.Layers, v1alpha1.Layer{Digest: digest, Size: 1 << 40})
			}
			content.Platforms = append(content.Platforms, p)
		}
		content, err := client.ImageContents().Create(t.Context(), content, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes", len(asJSON(content)))
	})
}

// worstStatus is the largest status that the controller writes: what is free text is HTML,
// of which each character takes six bytes, in the lengths that controller/caches cuts to.
func worstStatus(s *v1alpha1.ImageCacheStatus, name func(int) string, digest string) {
	counts := v1alpha1.NodeCounts{Selected: 1e9, Ready: 1e9, Updating: 1e9, Failed: 1e9, Unreachable: 1e9, NoAgent: 1e9}
	s.Nodes, s.FailureCount = counts, 1e9
	for i := range 1000 {
		s.Images = append(s.Images, v1alpha1.ImageStatus{Name: name(i), Digest: digest, Nodes: counts, Check: &v1alpha1.ImageCheck{
			Verdict: v1alpha1.VerdictInconclusive, Reason: v1alpha1.ReasonUnauthorized, Message: htmlOf(131), Time: metav1.Now(),
		}})
	}
	for i := range 20 {
		s.Failures = append(s.Failures, v1alpha1.ImageFailure{
			Image: name(i), Node: strings.Repeat("n", 253), Reason: strings.Repeat("R", 64), Message: htmlOf(512), Since: metav1.Now(),
		})
	}
	for _, kind := range []string{
		v1alpha1.ConditionReady, v1alpha1.ConditionFullyCached, v1alpha1.ConditionPullable,
		v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled, v1alpha1.ConditionSealingDisabled,
	} {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonImagesFailing, Message: htmlOf(1024)})
	}
}

// htmlOf gives a text that takes at most n bytes in JSON.
func htmlOf(n int) string { return strings.Repeat("<", n/6) + strings.Repeat("m", n%6) }
