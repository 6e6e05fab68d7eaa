package integration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/product"
)

// TestLifecycle lives through the life of two caches that share an image: each step leans on
// the one before.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	one, two, three := w.lab.Nodes()[0], w.lab.Nodes()[1], w.lab.Nodes()[2] // sites 1, 2, 1
	pos, vision, extra := w.push("retail/pos:v1", 1<<20, 1), w.push("retail/vision:v1", 1<<20, 2), w.push("retail/extra:v1", 1<<20, 3)

	t.Log("apply: what is known of an image is written down once")
	w.apply("pos", listing([]string{pos.Name, extra.Name}))
	ic := w.untilReady("pos", 3)
	for _, n := range w.lab.Nodes() {
		w.expectNames(n, pos, extra)
	}
	for _, img := range ic.Status.Images {
		if img.Check == nil || img.Check.Verdict != v1alpha1.VerdictPullable || img.Digest == "" {
			t.Errorf("image status %s", asJSON(img))
		}
	}
	for _, img := range w.object(one.Name()).Spec.Images {
		if img.Size < 1<<20 || !slices.Equal(img.Owners, []string{"default/pos"}) {
			t.Errorf("spec of %s: %s", one.Name(), asJSON(img))
		}
	}
	content, err := w.client.EdgecacheV1alpha1().ImageContents().Get(t.Context(), v1alpha1.ContentName(digest.Digest(pos.Digest)), metav1.GetOptions{})
	if err != nil || len(content.Platforms) != 1 || len(content.Platforms[0].Layers) != 1 {
		t.Errorf("content of pos: %s, %v", asJSON(content), err)
	}

	t.Log("share: an image stays as long as another cache asks for it")
	w.apply("other", listing([]string{extra.Name}))
	w.untilReady("other", 3)
	w.apply("pos", listing([]string{pos.Name}))
	w.untilReady("pos", 3)
	w.stays("extra stays for the other cache", 2*time.Second, func() error {
		if _, ok := w.names(one)[extra.Name]; !ok {
			return fmt.Errorf("%s is gone", extra.Name)
		}
		return nil
	})

	t.Log("suspend: an edit waits until it is lifted")
	w.apply("pos", listing([]string{pos.Name, vision.Name}, "state: Suspended"))
	w.stays("nothing changes", 2*time.Second, func() error {
		if _, ok := w.names(two)[vision.Name]; ok {
			return fmt.Errorf("%s came", vision.Name)
		}
		return nil
	})
	w.apply("pos", listing([]string{pos.Name, vision.Name}, "state: Cached"))
	w.untilReady("pos", 3)
	w.expectNames(two, pos, vision, extra)

	t.Log("let go: other is deleted, its image stays on the nodes")
	w.kubectl.must(t, "delete", "imagecache", "other")
	eventually(t, "the wish forgets extra", func() error {
		if s := w.object(two.Name()).Spec; len(s.Images) != 2 || len(s.Remove) != 0 {
			return fmt.Errorf("spec %s", asJSON(s))
		}
		return nil
	})

	t.Log("delete, Remove: the images go, and a node that is off does not hold the deletion back")
	w.apply("pos", listing([]string{pos.Name, vision.Name}, "deletionPolicy: Remove"))
	eventually(t, "the finalizer is there", func() error {
		if f := w.cache("pos").Finalizers; !slices.Contains(f, v1alpha1.FinalizerRemove) {
			return fmt.Errorf("finalizers %v", f)
		}
		return nil
	})
	if err := w.agents[three.Name()].Stop(process.Grace); err != nil {
		t.Fatal(err)
	}
	w.kubectl.must(t, "delete", "imagecache", "pos", "--timeout=5m")
	w.expectNames(one, extra)
	w.expectNames(two, extra)
	if len(w.names(three)) != 6 {
		t.Errorf("the node that is off holds %v", w.names(three))
	}
	w.startAgent(three)
	w.expectNames(three, extra)
	eventually(t, "only the 3 blobs of extra are left", func() error {
		if got := w.blobs(three); len(got) != 3 {
			return fmt.Errorf("left on %s: %v", three.Name(), got)
		}
		return nil
	})
}

// TestNodesComeAndGo: nodes added, removed, made again and dark.
func TestNodesComeAndGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	pos := w.push("retail/pos:v1", 1<<20, 1)
	w.apply("pos", listing([]string{pos.Name}))
	w.untilReady("pos", 2)

	t.Log("a node added later gets the images")
	late, err := w.lab.AddNode(t.Context(), node.Spec{Name: "late"})
	if err != nil {
		t.Fatal(err)
	}
	w.until("pos", "counts the node without agent", func(ic *v1alpha1.ImageCache) bool { return ic.Status.Nodes.NoAgent == 1 && ic.Status.Nodes.Ready == 2 })
	if !meta.IsStatusConditionTrue(w.cache("pos").Status.Conditions, v1alpha1.ConditionReady) {
		t.Error("a node without agent holds back Ready")
	}
	w.startAgent(late)
	w.untilReady("pos", 3)
	w.expectNames(late, pos)

	t.Log("a dark node is unreachable, not failed, and does not hold back Ready")
	if err := w.agents["late"].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := late.PauseHeartbeat(); err != nil {
		t.Fatal(err)
	}
	// Ten minutes of silence are a long test: without the Lease the silence is as good.
	w.kubectl.must(t, "-n", v1alpha1.SystemNamespace, "delete", "lease", "late")
	ic := w.until("pos", "counts the dark node", func(ic *v1alpha1.ImageCache) bool { return ic.Status.Nodes.Unreachable == 1 })
	if ic.Status.Nodes.Failed != 0 || !meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReady) || ic.Status.Summary.Ready != "2/3" {
		t.Errorf("status with a dark node: %s", asJSON(ic.Status))
	}
	if !meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionFullyCached) {
		t.Error("the dark node's last known state does not count for FullyCached")
	}

	t.Log("the cloud deletes the dark Node and makes it again: nothing goes on the node")
	uid := w.object("late").UID
	w.kubectl.must(t, "delete", "node", "late")
	eventually(t, "the object is gone", func() error {
		_, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(t.Context(), "late", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("still there"), err)
	})
	w.until("pos", "forgets the node", func(ic *v1alpha1.ImageCache) bool { return ic.Status.Nodes.Selected == 2 })
	if err := errors.Join(late.ResumeHeartbeat(), late.Stop(), late.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	w.startAgent(late)
	w.untilReady("pos", 3)
	if now := w.object("late").UID; now == uid {
		t.Error("the object of the new Node is the old one")
	}
	w.expectNames(late, pos)

	t.Log("a node that leaves takes its object along")
	if err := w.lab.RemoveNode(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	w.untilReady("pos", 2)
	if n := len(w.objects()); n != 2 {
		t.Errorf("%d objects, want 2", n)
	}
}

func (w *world) objects() []v1alpha1.NodeImageCache {
	w.Helper()
	list, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// TestF07RefreshOnDemand: a tag that moved reaches the fleet when it is asked for, and not before.
func TestF07RefreshOnDemand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	first := w.push("retail/pos:v1", 1<<20, 1)
	w.apply("pos", listing([]string{first.Name}))
	w.untilReady("pos", 2)
	second := w.push("retail/pos:v1", 1<<20, 2)
	w.stays("the digest is frozen", 3*time.Second, func() error {
		if got := w.cache("pos").Status.Images[0].Digest; got != first.Digest {
			return fmt.Errorf("digest moved to %s", got)
		}
		return nil
	})
	w.kubectl.must(t, "annotate", "imagecache", "pos", "edgecache.dev/requestedAt=now")
	w.until("pos", "handled the token and is at the new digest", func(ic *v1alpha1.ImageCache) bool {
		return ic.Status.LastHandledRefreshAt == "now" && ic.Status.Images[0].Digest == second.Digest &&
			meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReady)
	})
	for _, n := range w.lab.Nodes() {
		names := w.names(n)
		if names[second.Name] != second.Digest || names[first.ByDigest()] != first.Digest {
			t.Errorf("%s holds %v: want the tag at the new digest, the old one kept", n.Name(), names)
		}
	}

	t.Log("a registry that does not answer changes nothing")
	if err := w.lab.Registry().Stop(); err != nil {
		t.Fatal(err)
	}
	w.kubectl.must(t, "annotate", "--overwrite", "imagecache", "pos", "edgecache.dev/requestedAt=later")
	ic := w.until("pos", "handled the second token", func(ic *v1alpha1.ImageCache) bool { return ic.Status.LastHandledRefreshAt == "later" })
	if ic.Status.Images[0].Digest != second.Digest || !meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("status with the registry away: %s", asJSON(ic.Status))
	}
	if c := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionPullable); c.Status != metav1.ConditionUnknown {
		t.Errorf("Pullable = %s", asJSON(c))
	}
}

// TestNothingToDoNobodyWrites: when all is cached the API server hears nothing but Leases.
func TestNothingToDoNobodyWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	pos := w.push("retail/pos:latest", 1<<20, 1)
	w.apply("pos", listing([]string{pos.Name}, "refreshInterval: 10s"))
	w.apply("other", listing([]string{pos.Name}, "refreshInterval: 0s"))
	w.untilReady("pos", 3)
	w.untilReady("other", 3)
	before, began := w.settled(), time.Now()
	asked := w.untilAsked(len(w.lab.Registry().Requests()), 2)
	if after := w.settled(); !maps.Equal(before, after) {
		t.Errorf("writes before %v, after %v", before, after)
	}
	if most := int(time.Since(began)/(10*time.Second)) + 2; asked > most {
		t.Errorf("%d requests to the registry in %s at a refresh interval of 10 s, want one small one each", asked, time.Since(began))
	}

	t.Log("nor when controller and agents start anew")
	w.restartAll()
	after := w.settled()
	// An agent tells once who it is.
	if told := after[agentsWrite] - before[agentsWrite]; told > len(w.agents) {
		t.Errorf("%d agents wrote %d times when they started", len(w.agents), told)
	}
	delete(after, agentsWrite)
	delete(before, agentsWrite)
	if !maps.Equal(before, after) {
		t.Errorf("writes before the restart %v, after it %v", before, after)
	}
}

// agentsWrite is what writes counts an agent's report as.
const agentsWrite = "PATCH nodeimagecaches/status"

// untilAsked waits until the registry has had n requests more than before, and gives how
// many more.
func (w *world) untilAsked(before, n int) (more int) {
	w.Helper()
	eventually(w.T, fmt.Sprintf("the registry is asked %d times", n), func() error {
		if more = len(w.lab.Registry().Requests()) - before; more < n {
			return fmt.Errorf("%d times", more)
		}
		return nil
	})
	return more
}

// restartAll kills and starts all programs and waits until each has worked: the controller
// has looked up what it refreshes, the agents have renewed their Leases.
func (w *world) restartAll() {
	w.Helper()
	all := append(slices.Collect(maps.Values(w.agents)), w.controller)
	for _, p := range all {
		if err := p.Kill(); err != nil {
			w.Fatal(err)
		}
	}
	began, asked := time.Now(), len(w.lab.Registry().Requests())
	for _, p := range all {
		if err := p.Restart(); err != nil {
			w.Fatal(err)
		}
	}
	w.untilAsked(asked, 1)
	for name := range w.agents {
		eventually(w.T, "the agent of "+name+" renews its Lease", func() error {
			lease, err := w.lab.Client().CoordinationV1().Leases(v1alpha1.SystemNamespace).Get(w.Context(), name, metav1.GetOptions{})
			if err == nil && lease.Spec.RenewTime.Time.Before(began) {
				err = fmt.Errorf("renewed at %s", lease.Spec.RenewTime)
			}
			return err
		})
	}
}

// TestDisconnected: without the API server the agent goes on holding the node to the wish,
// after a restart too, and the status catches up.
func TestDisconnected(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	pos := w.push("retail/pos:v1", 1<<20, 1)
	w.apply("pos", listing([]string{pos.Name}))
	w.untilReady("pos", 2)
	n := w.lab.Nodes()[0]
	if err := w.lab.ControlPlane().StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	t.Log("a lost image comes back")
	w.lose(n)
	w.expectNames(n, pos)
	t.Log("also when the agent has to start without a server")
	if err := w.agents[n.Name()].Kill(); err != nil {
		t.Fatal(err)
	}
	w.lose(n)
	if err := w.agents[n.Name()].Restart(); err != nil {
		t.Fatal(err)
	}
	w.expectNames(n, pos)
	t.Log("the status catches up")
	if err := w.lab.ControlPlane().StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.untilReady("pos", 2)
	extra := w.push("retail/extra:v1", 1<<20, 2)
	w.apply("pos", listing([]string{pos.Name, extra.Name}))
	w.untilReady("pos", 2)
	w.expectNames(n, pos, extra)
}

// lose removes every name and blob from a node's layout behind the agent's back.
func (w *world) lose(n *node.Node) {
	w.Helper()
	if err := product.EmptyLayout(n); err != nil {
		w.Fatal(err)
	}
}
