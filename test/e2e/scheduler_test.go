package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/test/product"
)

// TestPodGoesWhereItsImageIs: of two real nodes the pod lands on the one that holds its image, although the other one is
// emptier, and starts there without a byte from the registry.
//
//nolint:paralleltest // two real clusters at a time are too much for two cores
func TestPodGoesWhereItsImageIs(t *testing.T) {
	w := newWorld(t, 2)
	warm := w.lab.Nodes()[0]
	pos, filler := w.push("retail/pos:v1", 8<<20, 1), w.push("retail/filler:v1", 1<<20, 2)
	w.applyOn(warm, pos.Name)
	w.untilReady(1)
	w.expectCached(warm, pos)
	w.run(schedulable("filler", "default-scheduler", filler.Name, "500m", map[string]string{corev1.LabelHostname: warm.Name()}))

	config, err := os.ReadFile(filepath.Join(w.lab.Tools().Root(), product.SchedulerExamples, "second.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	scheduler, err := product.StartScheduler(t.Context(), w.lab, product.SchedulerSpec{Config: string(config), Args: []string{"-v=4"}})
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the scheduler knows of the nodes", func() error {
		heard, err := scheduler.Metric(t.Context(), "edgecache_scheduler_nodes", `agent="heard"`)
		if err == nil && heard != 2 {
			err = fmt.Errorf("it heard of %v agents", heard)
		}
		return err
	})

	w.lab.Registry().ResetRequests()
	w.run(schedulable("pos", product.SchedulerAccount, pos.Name, "10m", nil))
	if on := w.nodeOf("pos"); on != warm.Name() {
		t.Errorf("the pod is on %s, want %s, which holds its image", on, warm.Name())
	}
	w.expectNoRequests()
	w.untilToldOf("pos", fmt.Sprintf("Container image %q already present on machine", pos.Name))
	w.untilToldOf("pos", "Images on "+warm.Name()+": all ")
	if n, err := scheduler.Metric(t.Context(), "edgecache_scheduler_decisions_total", `outcome="Cached"`); err != nil || n != 1 {
		t.Errorf("%v decisions for what is cached (%v), want 1", n, err)
	}
}

// untilToldOf waits for an Event of a pod that begins with a text.
func (w *world) untilToldOf(pod, text string) {
	w.Helper()
	w.eventually(fmt.Sprintf("an Event of %s says %q", pod, text), func() error {
		messages, err := w.events(pod)
		if err == nil && !slices.ContainsFunc(messages, func(m string) bool { return strings.HasPrefix(m, text) }) {
			err = fmt.Errorf("events %q", messages)
		}
		return err
	})
}

func schedulable(name, scheduler, image, cpu string, on map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		SchedulerName: scheduler, NodeSelector: on,
		Containers: []corev1.Container{{Name: "main", Image: image, Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}},
	}}
}

func (w *world) nodeOf(pod string) string {
	w.Helper()
	p, err := w.lab.Client().CoreV1().Pods("default").Get(w.Context(), pod, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return p.Spec.NodeName
}
