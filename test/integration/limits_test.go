package integration

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/testimage"
)

// TestBytesOfANamespace: a cache whose images do not fit is refused whole and says why,
// also after a restart; it comes in by itself when another one goes. One that grew too
// large keeps what it has.
func TestBytesOfANamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.limitBytes("2800Ki")
	n := w.lab.Nodes()[0]
	a, b, c := w.push("retail/a:v1", 1<<20, 1), w.push("retail/b:v1", 1<<20, 2), w.push("retail/c:v1", 1<<20, 3)
	small := w.push("retail/small:v1", 512<<10, 4)
	w.apply("one", listing([]string{a.Name}, "deletionPolicy: Remove"))
	w.untilReady("one", 2)

	t.Log("what does not fit is looked up and not brought to any node")
	w.apply("two", listing([]string{b.Name, c.Name}))
	message := w.untilOverweight("two")
	if !strings.Contains(message, "maxBytes is 2800Ki, 2867200 bytes: older ImageCaches of the namespace have 10") ||
		!strings.Contains(message, "(limits[0] of the controller's settings, for namespace default)") {
		t.Errorf("Stalled: %s", message)
	}
	if images := w.cache("two").Status.Images; images[0].Digest != b.Digest || images[1].Digest != c.Digest {
		t.Errorf("images %s, want both looked up", asJSON(images))
	}

	t.Log("what fits beside it is served, before and after a restart")
	if err := w.controller.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.controller.Restart(); err != nil {
		t.Fatal(err)
	}
	w.apply("three", listing([]string{small.Name}))
	w.untilReady("three", 2)
	w.expectNames(n, a, small)

	t.Log("what grew too large keeps what it has")
	w.apply("one", listing([]string{a.Name, b.Name, c.Name}, "deletionPolicy: Remove"))
	w.untilOverweight("one")
	w.untilOverweight("two")
	w.expectNotTold(b, c)
	w.expectNames(n, a, small)

	t.Log("when it goes the other one comes in by itself")
	w.kubectl.must(t, "delete", "imagecache", "one")
	w.untilReady("two", 2)
	w.expectNames(n, b, c, small)
}

// limitBytes starts the controller anew with a limit for the namespace default.
func (w *world) limitBytes(most string) {
	w.Helper()
	if err := w.controller.Kill(); err != nil {
		w.Fatal(err)
	}
	var err error
	if w.controller, err = w.product.ControllerWith("limited", "limits:\n- namespaces: [default]\n  maxBytes: "+most+"\n"); err != nil {
		w.Fatal(err)
	}
}

// untilOverweight waits until an ImageCache is refused for its bytes, and gives the message.
func (w *world) untilOverweight(name string) string {
	w.Helper()
	ic := w.until(name, "is refused", func(ic *v1alpha1.ImageCache) bool {
		stalled := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionStalled)
		return stalled != nil && stalled.Reason == v1alpha1.ReasonNotAllowed
	})
	return meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionStalled).Message
}

// expectNotTold checks that no node was ever asked for images, and none of their bytes
// were served.
func (w *world) expectNotTold(images ...testimage.Pushed) {
	w.Helper()
	for _, img := range images {
		if told := w.told(img); told > 0 {
			w.Errorf("%d nodes were told of %s", told, img.Name)
		}
		repository, _, _ := strings.Cut(strings.TrimPrefix(img.Name, w.lab.Registry().Addr()+"/"), ":")
		for _, r := range w.lab.Registry().Requests().Blobs() {
			if r.Repository == repository && r.Bytes > 64<<10 { // more than a config, which look-ups read
				w.Errorf("a layer of %s was served: %+v", img.Name, r)
			}
		}
	}
}
