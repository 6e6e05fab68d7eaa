package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
)

// TestARelabelledNodeKeepsImagesForAWhile: a label that is lost for a moment does not cost
// a node its images.
func TestARelabelledNodeKeepsImagesForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	one, two := w.lab.Nodes()[0], w.lab.Nodes()[1]
	pos := w.push("retail/pos:v1", 1<<16, 1)
	w.label(one, "tier", "gold")
	w.label(two, "tier", "gold")
	w.apply("pos", fmt.Sprintf("{cacheSpec: [{images: [%q], nodeSelector: {tier: gold}}]}", pos.Name))
	w.untilReady("pos", 2)

	t.Log("a lost label: the image stays, with a time to leave, and is not counted")
	w.label(one, "tier", "iron")
	entry := w.untilEntry(one, "leaves later", func(e *v1alpha1.NodeImage) bool { return e != nil && e.LeavesAt != nil })
	if left := time.Until(entry.LeavesAt.Time); left < 50*time.Minute || left > time.Hour {
		t.Errorf("the image leaves in %s, want about an hour", left)
	}
	w.untilReady("pos", 1)
	w.expectNames(one, pos)

	t.Log("the label is back: all as before")
	w.label(one, "tier", "gold")
	w.untilEntry(one, "stays", func(e *v1alpha1.NodeImage) bool { return e != nil && e.LeavesAt == nil })
	w.untilReady("pos", 2)

	t.Log("the grace is over: the image is removed")
	if err := w.controller.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.product.Controller("hasty", "--relabel-grace", "1s"); err != nil {
		t.Fatal(err)
	}
	w.label(one, "tier", "iron")
	w.expectNames(one)
	w.expectNames(two, pos)
}

func (w *world) label(n *node.Node, key, value string) {
	w.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, key, value)
	if _, err := w.lab.Client().CoreV1().Nodes().Patch(w.Context(), n.Name(), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		w.Fatal(err)
	}
}

// untilEntry waits until the first image of a node's spec, nil if there is none, is as it should be.
func (w *world) untilEntry(n *node.Node, what string, holds func(*v1alpha1.NodeImage) bool) *v1alpha1.NodeImage {
	w.Helper()
	var entry *v1alpha1.NodeImage
	eventually(w.T, n.Name()+" "+what, func() error {
		entry = nil
		if images := w.object(n.Name()).Spec.Images; len(images) > 0 {
			entry = &images[0]
		}
		if !holds(entry) {
			return errors.New(asJSON(entry))
		}
		return nil
	})
	return entry
}
