package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/testimage"
)

// TestNodesResolve: a registry that only the nodes reach. A tag that moves between the
// look-ups of two sites gives each site a digest of its own, which outlive the controller;
// a refresh brings them together; a registry that is away changes nothing.
func TestNodesResolve(t *testing.T) {
	t.Parallel()
	w := newInstalled(t, 4)
	w.startController("--config", w.cutOff())
	w.protect("s3cret")
	w.secret("right", "s3cret")
	sites := w.bySite()
	first := w.push("private/pos:v1", 1<<18, 1)
	spec := []string{"resolve: Node", "imagePullSecrets: [{name: right}]", "rollout: {maxConcurrentNodes: 1}"}
	w.apply("pos", listing([]string{first.Name}, spec...))

	t.Log("the first site")
	for _, n := range sites["site-1"] {
		w.startAgent(n)
	}
	for _, n := range sites["site-1"] {
		w.expectNames(n, first)
	}

	t.Log("the tag moves, and the second site comes")
	second := w.push("private/pos:v1", 1<<18, 2)
	for _, n := range sites["site-2"] {
		w.startAgent(n)
	}
	ic := w.untilReady("pos", 4)
	w.expectDigests(map[string]testimage.Pushed{"site-1": first, "site-2": second})
	w.expectSites(ic, "", v1alpha1.ImageSites{Sites: 2, Resolved: 2, Digests: 2})
	if ready := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, "sites differ on 1 images") {
		t.Errorf("Ready does not tell of the drift: %s", asJSON(ready))
	}
	pullable := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionPullable)
	if pullable.Reason != v1alpha1.ReasonNotChecked || ic.Status.Images[0].Check != nil {
		t.Errorf("the controller checked: %s, %s", asJSON(pullable), asJSON(ic.Status.Images))
	}

	t.Log("a controller that is killed knows nothing else afterwards")
	generations := w.generations()
	w.settled()
	if err := w.controller.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.controller.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the controller works again", func() error {
		if n := w.logged(w.controller, "Controller is working"); n < 2 {
			return fmt.Errorf("it began %d times", n)
		}
		return nil
	})
	w.settled()
	if now := w.generations(); !maps.Equal(generations, now) {
		t.Errorf("generations of specs %v, before %v", now, generations)
	}

	t.Log("a refresh brings the sites together")
	ic = w.refreshed("one")
	w.expectDigests(map[string]testimage.Pushed{"site-1": second, "site-2": second})
	w.expectSites(ic, second.Digest, v1alpha1.ImageSites{Sites: 2, Resolved: 2, Digests: 1})

	w.keepsWhatItHas(second)

	t.Log("under Always a tag is followed without being asked")
	third := w.push("private/pos:v1", 1<<18, 3)
	w.apply("pos", listing([]string{first.Name}, append(spec, "imagePullPolicy: Always", "refreshInterval: 10s")...))
	w.until("pos", "has the third digest everywhere", func(ic *v1alpha1.ImageCache) bool {
		return ic.Status.Images[0].Digest == third.Digest && ic.Status.Nodes.Ready == 4
	})
	w.expectDigests(map[string]testimage.Pushed{"site-1": third, "site-2": third})
	before := w.settled()
	asked := len(w.lab.Registry().Requests())
	eventually(t, "each node has asked twice more", func() error {
		if n := len(w.lab.Registry().Requests()) - asked; n < 8 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	if after := w.writes(); !maps.Equal(before, after) {
		t.Errorf("what is known was written: %v, before %v", after, before)
	}
}

// TestNodesResolveBesideTheFleet: where another ImageCache has the controller resolve the
// same tag its digest counts; when that one goes, the site takes the digest over.
func TestNodesResolveBesideTheFleet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	first := w.push("retail/pos:v1", 1<<18, 1)
	w.apply("fleet", listing([]string{first.Name}))
	w.untilReady("fleet", 2)
	second := w.push("retail/pos:v1", 1<<18, 2)
	w.apply("pos", listing([]string{first.Name}, "resolve: Node"))
	ic := w.untilReady("pos", 2)
	w.expectSites(ic, "", v1alpha1.ImageSites{Sites: 2})
	both := map[string]testimage.Pushed{"site-1": first, "site-2": first}
	w.expectDigests(both)

	t.Log("the other one goes")
	w.kubectl.must(t, "delete", "imagecache/fleet")
	ic = w.until("pos", "has taken over", func(ic *v1alpha1.ImageCache) bool {
		return ic.Status.Nodes.Ready == 2 && ic.Status.Images[0].Digest == first.Digest
	})
	w.expectSites(ic, first.Digest, v1alpha1.ImageSites{Sites: 2, Resolved: 2, Digests: 1})
	w.expectDigests(both)
	w.kubectl.must(t, "annotate", "imagecache/pos", v1alpha1.AnnotationRequestedAt+"=now")
	w.until("pos", "has the second digest", func(ic *v1alpha1.ImageCache) bool {
		return ic.Status.Nodes.Ready == 2 && ic.Status.Images[0].Digest == second.Digest && ic.Status.LastHandledRefreshAt == "now"
	})

	t.Log("edited to Controller, purged, and back to Node")
	w.apply("pos", listing([]string{first.Name}))
	w.until("pos", "is looked up by the controller", func(ic *v1alpha1.ImageCache) bool {
		img := ic.Status.Images[0]
		return img.Sites == nil && img.Check != nil && img.Digest == second.Digest && ic.Status.Nodes.Ready == 2
	})
	w.apply("pos", listing([]string{first.Name}, "resolve: Node", "state: Purged"))
	w.until("pos", "is purged", func(ic *v1alpha1.ImageCache) bool {
		return meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionReady).Reason == v1alpha1.ReasonPurged
	})
	for _, n := range w.lab.Nodes() {
		w.expectNames(n)
	}
	third := w.push("retail/pos:v1", 1<<18, 3)
	w.apply("pos", listing([]string{first.Name}, "resolve: Node"))
	w.untilReady("pos", 2)
	w.expectDigests(map[string]testimage.Pushed{"site-1": third, "site-2": third})
}

// keepsWhatItHas: a refresh that no registry answers changes nothing and says so; it is
// done when the registry is back.
func (w *world) keepsWhatItHas(held testimage.Pushed) {
	w.Helper()
	w.Log("a registry that is away changes nothing")
	if err := w.lab.Registry().Stop(); err != nil {
		w.Fatal(err)
	}
	ic := w.refreshed("two")
	if !meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReady) {
		w.Errorf("not Ready: %s", asJSON(ic.Status))
	}
	for _, n := range w.lab.Nodes() {
		st := w.object(n.Name()).Status.Images[0]
		if st.Phase != v1alpha1.PhaseCached || st.Digest != held.Digest || st.Resolved.Reason == "" {
			w.Errorf("%s: %s", n.Name(), asJSON(st))
		}
	}
	if err := w.lab.Registry().Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	for _, n := range w.lab.Nodes() {
		eventually(w.T, n.Name()+" has its answer", func() error {
			if st := w.object(n.Name()).Status.Images[0]; st.Resolved.RefreshToken != "two" || st.Resolved.Reason != "" {
				return fmt.Errorf("status %s", asJSON(st))
			}
			return nil
		})
	}
}

// cutOff gives settings of a controller that reaches no registry.
func (w *world) cutOff() string {
	w.Helper()
	path := filepath.Join(w.TempDir(), "cut-off.yaml")
	text := fmt.Sprintf("registries: [{hosts: [%q], plainHTTP: true, proxy: \"http://127.0.0.1:1\"}]\n", w.lab.Registry().Addr())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

func (w *world) bySite() map[string][]*node.Node {
	sites := map[string][]*node.Node{}
	for _, n := range w.lab.Nodes() {
		sites[n.Site()] = append(sites[n.Site()], n)
	}
	return sites
}

// expectDigests waits until the nodes of each site have the tag at the site's digest.
func (w *world) expectDigests(want map[string]testimage.Pushed) {
	w.Helper()
	for _, n := range w.lab.Nodes() {
		p := want[n.Site()]
		eventually(w.T, n.Name()+" holds "+p.Digest, func() error {
			if got := w.names(n)[p.Name]; got != p.Digest {
				return fmt.Errorf("%s is %s, want %s", p.Name, got, p.Digest)
			}
			return nil
		})
	}
}

func (w *world) expectSites(ic *v1alpha1.ImageCache, digest string, want v1alpha1.ImageSites) {
	w.Helper()
	img := ic.Status.Images[0]
	if diff := cmp.Diff(&want, img.Sites); diff != "" || img.Digest != digest {
		w.Errorf("digest %q, want %q; sites (-want +got):\n%s", img.Digest, digest, diff)
	}
}

// generations gives how often each node's spec was written.
func (w *world) generations() map[string]int64 {
	w.Helper()
	all := map[string]int64{}
	for _, n := range w.lab.Nodes() {
		all[n.Name()] = w.object(n.Name()).Generation
	}
	return all
}

// refreshed asks for a refresh of pos and waits until it is done and all nodes are Ready.
func (w *world) refreshed(token string) *v1alpha1.ImageCache {
	w.Helper()
	w.refresh("pos", token)
	return w.until("pos", "is Ready after refresh "+token, func(ic *v1alpha1.ImageCache) bool { return ic.Status.Nodes.Ready == 4 })
}
