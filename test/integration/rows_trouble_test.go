package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/product"
)

// f13: at once, without a refresh.
func (w *world) f13() {
	pos, n := w.rowImage("f13/pos:v1"), w.lab.Nodes()[0]
	w.apply("f13", listing([]string{pos.Name}, "refreshInterval: 0s"))
	w.untilReady("f13", 3)
	if err := product.RemoveFromLayout(n, pos.Digest); err != nil {
		w.Fatal(err)
	}
	w.untilHolds(n, pos)
	w.untilReady("f13", 3)
}

// f14: it is Ready as far as there is anything to do, and goes on when there is.
func (w *world) f14() {
	pos, two := w.rowImage("f14/pos:v1"), w.lab.Nodes()[1]
	w.apply("f14", fmt.Sprintf("{cacheSpec: [{images: [%q], nodeSelector: {f14: gold}}]}", pos.Name))
	ic := w.untilReason("f14", v1alpha1.ReasonNoNodesSelected)
	if c := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionReady); c.Status != metav1.ConditionTrue || ic.Status.Nodes.Selected != 0 {
		w.Errorf("status %s", asJSON(ic.Status))
	}
	w.label(two, "f14", "gold")
	w.untilReady("f14", 1)
	w.untilHolds(two, pos)
}

// f15: a registry that goes away in the middle is a failure of image and node with its
// cause, and when it is back the pull goes on where it was.
func (w *world) f15() {
	const size = 1 << 20
	pos, layer := w.push("f15/pos:v1", size, 15), w.layerOf(size, 15)
	w.slow(1 << 17)
	w.apply("f15", listing([]string{pos.Name}))
	eventually(w.T, "a quarter has come", func() error {
		if n := w.asked("f15/pos").BlobBytes(); n < size {
			return fmt.Errorf("%d bytes for all nodes", n)
		}
		return nil
	})
	if err := w.lab.Registry().SetFaults(w.Context(), registry.Faults{Refuse: true}); err != nil {
		w.Fatal(err)
	}
	ic := w.until("f15", "names the failures", func(ic *v1alpha1.ImageCache) bool { return ic.Status.FailureCount == 3 })
	for _, f := range ic.Status.Failures {
		if f.Image != pos.Name || f.Reason != v1alpha1.ReasonNetworkError || f.Message == "" {
			w.Errorf("failure %s", asJSON(f))
		}
	}
	host, _, _ := strings.Cut(pos.Repository, "/")
	w.untilLinks(host, metav1.ConditionFalse)
	w.slow(0)
	w.untilReady("f15", 3)
	w.untilLinks(host, metav1.ConditionTrue)
	if again := w.asked("f15/pos").Repeated(layer) - 2*size; again > size/4 {
		w.Errorf("%d bytes were fetched again", again)
	}
}

// untilLinks waits until each agent says how it reaches a registry.
func (w *world) untilLinks(host string, reachable metav1.ConditionStatus) {
	w.Helper()
	eventually(w.T, fmt.Sprintf("all nodes say that %s being reachable is %s", host, reachable), func() error {
		list, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).List(w.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			links := list.Items[i].Status.Registries
			if !slices.ContainsFunc(links, func(r v1alpha1.RegistryStatus) bool {
				return r.Host == host && r.Reachable == reachable && r.State != "" && !r.Since.IsZero()
			}) {
				return fmt.Errorf("%s says %s", list.Items[i].Name, asJSON(links))
			}
		}
		return nil
	})
}

// f17: what kubectl shows, and one event for each change that matters.
func (w *world) f17() {
	pos := w.rowImage("f17/pos:v1")
	w.apply("f17", listing([]string{pos.Name}))
	ic := w.untilReady("f17", 3)
	for _, c := range ic.Status.Conditions {
		if c.Reason == "" || c.LastTransitionTime.IsZero() || c.ObservedGeneration != ic.Generation {
			w.Errorf("condition %s", asJSON(c))
		}
	}
	if out := w.kubectl.must(w.T, "get", "ic", "f17", "-o", "wide"); !strings.Contains(out, "3/3") || !strings.Contains(out, "3 nodes") {
		w.Errorf("kubectl get ic -o wide:\n%s", out)
	}
	w.untilEvent("f17", corev1.EventTypeNormal, v1alpha1.ReasonAllCached)
	w.apply("f17", listing([]string{pos.Repository + ":none"}))
	w.untilReason("f17", v1alpha1.ReasonNotPullable)
	w.untilEvent("f17", corev1.EventTypeWarning, v1alpha1.ReasonNotPullable)
}

func (w *world) untilEvent(name, kind, reason string) {
	w.Helper()
	eventually(w.T, fmt.Sprintf("an event of %s says %s", name, reason), func() error {
		events, err := w.lab.Client().CoreV1().Events("default").List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",reason=" + reason})
		switch {
		case err != nil:
			return err
		case len(events.Items) == 0:
			return errors.New("no such event")
		case events.Items[0].Type != kind || events.Items[0].Message == "":
			w.Fatalf("event %s", asJSON(events.Items[0]))
		}
		return nil
	})
}

// f18: which operation it is shows in the reason of Ready, in observedGeneration and in
// lastHandledRefreshAt.
func (w *world) f18() {
	pos, extra := w.rowImage("f18/pos:v1"), w.rowImage("f18/extra:v1")
	images := []string{pos.Name}
	w.apply("f18", listing(images))
	w.untilReason("f18", v1alpha1.ReasonAllCached)
	images = append(images, extra.Name)
	w.apply("f18", listing(images))
	if ic := w.untilReason("f18", v1alpha1.ReasonAllCached); ic.Status.ObservedGeneration != 2 || ic.Status.Summary.Images != 2 {
		w.Errorf("status after the edit: %s", asJSON(ic.Status))
	}
	if ic := w.refresh("f18", "token"); ic.Generation != 2 {
		w.Errorf("a refresh changed the spec: generation %d", ic.Generation)
	}
	w.apply("f18", listing(images, "state: Suspended"))
	w.untilReason("f18", v1alpha1.ReasonSuspended)
	w.apply("f18", listing(images, "state: Purged"))
	w.untilReason("f18", v1alpha1.ReasonPurged)
}

// f25: what makes no sense is refused with words; any edit that does is taken and followed.
func (w *world) f25() {
	pos, two := w.rowImage("f25/pos:v1"), w.lab.Nodes()[1]
	for spec, want := range map[string]string{
		"{cacheSpec: [{images: []}]}":                              "images in body should have at least 1 items",
		listing([]string{"app:v1", "app:v1"}):                      `spec.cacheSpec[0].images[1]: Duplicate value: "app:v1"`,
		"{cacheSpec: [{images: [app], nodeSelector: {a: 'b c'}}]}": "spec.cacheSpec[0].nodeSelector.a",
	} {
		out, err := w.kubectl.apply(w.T, "{apiVersion: edgecache.dev/v1alpha1, kind: ImageCache, metadata: {name: f25, namespace: default}, spec: "+spec+"}")
		if err == nil || !strings.Contains(out, want) {
			w.Errorf("%s: %s\nwant %q", spec, out, want)
		}
	}
	list := func(site string) string {
		return fmt.Sprintf("{images: [%q], nodeSelector: {edgecache.dev/site: %s}}", pos.Name, site)
	}
	w.apply("f25", "{cacheSpec: ["+list("site-1")+", "+list("site-2")+"]}")
	w.untilReady("f25", 3)
	w.apply("f25", "{cacheSpec: ["+list("site-1")+"]}")
	w.untilLacks(two, pos)
	w.apply("f25", "{cacheSpec: ["+list("site-2")+"]}")
	w.untilReady("f25", 1)
	w.untilHolds(two, pos)
	w.untilLacks(w.lab.Nodes()[0], pos)
}

// f26: nothing of edgecache has to run for an object to be checked, and nothing expires.
func (w *world) f26() {
	pos := w.rowImage("f26/pos:v1")
	if out := w.kubectl.must(w.T, "get", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "-o", "name"); out != "" {
		w.Errorf("webhooks: %s", out)
	}
	if out := w.kubectl.must(w.T, "-n", v1alpha1.SystemNamespace, "get", "secrets", "-o", "name"); out != "" {
		w.Errorf("secrets: %s", out)
	}
	if err := w.controller.Kill(); err != nil {
		w.Fatal(err)
	}
	bad := "{apiVersion: edgecache.dev/v1alpha1, kind: ImageCache, metadata: {name: f26, namespace: default}, spec: " + listing([]string{"https://r.example/app:v1"}) + "}"
	if out, err := w.kubectl.apply(w.T, bad); err == nil || !strings.Contains(out, "an image reference has no scheme") {
		w.Errorf("kubectl apply: %s", out)
	}
	w.apply("f26", listing([]string{pos.Name}))
	if err := w.controller.Restart(); err != nil {
		w.Fatal(err)
	}
	w.untilReady("f26", 3)
}

// f27: edits, refreshes and purges while images come are taken, and the last word counts.
func (w *world) f27() {
	first, last := w.push("f27/first:v1", 4<<20, 271), w.rowImage("f27/last:v1")
	w.slow(1 << 18)
	w.apply("f27", listing([]string{first.Name}))
	w.until("f27", "is at work", func(ic *v1alpha1.ImageCache) bool { return ic.Status.Nodes.Updating == 3 })
	w.kubectl.must(w.T, "annotate", "imagecache", "f27", "edgecache.dev/requestedAt=busy")
	w.apply("f27", listing([]string{first.Name, last.Name}))
	w.apply("f27", listing([]string{first.Name, last.Name}, "state: Purged"))
	w.apply("f27", listing([]string{last.Name}, "state: Cached"))
	ic := w.untilReady("f27", 3) // without waiting for the first image
	w.slow(0)
	if ic.Status.LastHandledRefreshAt != "busy" {
		w.Errorf("handled refresh %q, want busy", ic.Status.LastHandledRefreshAt)
	}
	for _, n := range w.lab.Nodes() {
		w.untilHolds(n, last)
		w.untilLacks(n, first)
	}
}

// f29: what an edit does not name is neither pulled nor written.
func (w *world) f29() {
	kept, gone, site := w.rowImage("f29/kept:v1"), w.rowImage("f29/gone:v1"), w.rowImage("f29/site:v1")
	one, two := w.lab.Nodes()[0], w.lab.Nodes()[1]
	spec := func(images ...string) string {
		return fmt.Sprintf("{cacheSpec: [{images: [%q]}, {images: [%s], nodeSelector: {edgecache.dev/site: site-1}}]}", kept.Name, quoted(images))
	}
	w.apply("f29", spec(gone.Name))
	w.untilReady("f29", 3)
	blobs, generation := w.pulled("f29/kept"), w.object(two.Name()).Generation
	w.apply("f29", spec(site.Name))
	w.untilReady("f29", 3)
	w.untilHolds(one, kept, site)
	w.untilLacks(one, gone)
	if after := w.pulled("f29/kept"); after != blobs {
		w.Errorf("%d blobs of an image that was not edited were fetched", after-blobs)
	}
	if after := w.object(two.Name()).Generation; after != generation {
		w.Errorf("the object of a node that the edit is not about was written: generation %d, then %d", generation, after)
	}
}
