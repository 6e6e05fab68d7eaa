package integration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/testimage"
)

// TestSandboxImageNeedsNoAsking: an image that a node's runtime makes pod sandboxes of is
// kept there and nowhere else, with ImageCaches that name it and without, until the runtime
// uses another one or the controller is told not to.
func TestSandboxImageNeedsNoAsking(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	one, two := w.lab.Nodes()[0], w.lab.Nodes()[1]
	pause := w.push("infra/pause:1", 1<<16, 1)

	t.Log("reported by one node it comes there, and no ImageCache is needed")
	w.report(one, pause.Name)
	w.expectNames(one, pause)
	w.expectNames(two)
	entry := w.untilEntry(one, "is asked for it", func(e *v1alpha1.NodeImage) bool { return e != nil })
	if !slices.Equal(entry.Owners, []string{v1alpha1.OwnerSandboxImage}) || entry.Priority <= 1000 || entry.Pin == v1alpha1.PinNever || entry.Digest != pause.Digest {
		t.Errorf("the node is asked for %s", asJSON(entry))
	}

	t.Log("an ImageCache names it too, and is removed with its images: the node keeps it")
	w.apply("pos", listing([]string{pause.Name}, "deletionPolicy: Remove"))
	w.untilReady("pos", 2)
	w.expectNames(two, pause)
	w.removeCache("pos")
	w.expectNames(two)
	w.expectNames(one, pause)
	w.untilEntry(one, "is asked for it by nobody else", func(e *v1alpha1.NodeImage) bool {
		return e != nil && slices.Equal(e.Owners, []string{v1alpha1.OwnerSandboxImage})
	})

	t.Log("a restarted controller asks no registry and writes nothing")
	before := w.settled()
	w.lab.Registry().ResetRequests()
	if err := w.controller.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.controller.Restart(); err != nil {
		t.Fatal(err)
	}
	w.untilLogged(w.controller, "Controller is working", 2)
	if after := w.settled(); !maps.Equal(before, after) {
		t.Errorf("writes before %v, after %v", before, after)
	}
	if asked := w.lab.Registry().Requests(); len(asked) != 0 {
		t.Errorf("the registry was asked: %+v", asked)
	}

	t.Log("another runtime: it is let go, not removed")
	w.report(one, "")
	w.untilEntry(one, "is asked for nothing", func(e *v1alpha1.NodeImage) bool { return e == nil })
	w.untilKept(one, pause)

	t.Log("an image that the registry has not is no wish")
	w.report(one, pause.Repository+":missing")
	w.untilLogged(w.controller, ":missing", 1)
	if images := w.object(one.Name()).Spec.Images; len(images) != 0 {
		t.Errorf("the node is asked for %s", asJSON(images))
	}

	t.Log("a controller that is told not to")
	w.report(one, pause.Name)
	w.untilEntry(one, "is asked for it", func(e *v1alpha1.NodeImage) bool { return e != nil })
	if err := w.controller.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.product.Controller("without", "--sandbox-image=false"); err != nil {
		t.Fatal(err)
	}
	w.untilEntry(one, "is asked for nothing", func(e *v1alpha1.NodeImage) bool { return e == nil })
	w.untilKept(one, pause)
}

// report has a node's agent start on a runtime of which is known what it makes sandboxes of.
// The layout driver, which has no sandboxes, leaves that as it was reported before.
func (w *world) report(n *node.Node, image string) {
	w.Helper()
	agent := w.agents[n.Name()]
	w.untilKnown(n)
	if err := agent.Kill(); err != nil {
		w.Fatal(err)
	}
	patch := fmt.Appendf(nil, `{"status":{"runtime":{"name":"layout","sandboxImage":%q}}}`, image)
	_, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Patch(
		w.Context(), n.Name(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		w.Fatal(err)
	}
	if err := agent.Restart(); err != nil {
		w.Fatal(err)
	}
}

// removeCache deletes an ImageCache and waits until it is gone.
func (w *world) removeCache(name string) {
	w.Helper()
	caches := w.client.EdgecacheV1alpha1().ImageCaches("default")
	if err := caches.Delete(w.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	eventually(w.T, name+" is gone", func() error {
		_, err := caches.Get(w.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("still there"), err)
	})
}

// untilKept waits until a node's agent has seen its spec, and checks that the image is there
// and not to be removed.
func (w *world) untilKept(n *node.Node, p testimage.Pushed) {
	w.Helper()
	eventually(w.T, n.Name()+" has seen its spec", func() error {
		if o := w.object(n.Name()); o.Status.ObservedGeneration != o.Generation || len(o.Spec.Remove) > 0 {
			return errors.New(asJSON(o))
		}
		return nil
	})
	w.expectNames(n, p)
}
