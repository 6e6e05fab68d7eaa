package integration

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
)

// TestRows is docs/coming-from-kube-fledged.md row by row: each row that runs is a test named
// after it, here or, where it needs a world of its own, as TestF03…, F07, F16, F19 and F28.
//
// All share one fleet of three nodes, in site-1, site-2 and site-1 again, and touch nothing
// but their own caches and images, named after the row. Those that disturb the others come
// first, one by one.
func TestRows(t *testing.T) { //nolint:tparallel // some rows disturb the others
	t.Parallel()
	shared := newWorld(t, 3)
	for _, row := range []struct {
		name  string
		alone bool
		test  func(*world)
	}{
		{name: "F04CreateBringsAllImages", alone: true, test: (*world).f04},
		{name: "F12NewAndRelabelledNodes", alone: true, test: (*world).f12},
		{name: "F13LostImagesComeBack", alone: true, test: (*world).f13},
		{name: "F15FailsAndGoesOn", alone: true, test: (*world).f15},
		{name: "F26NoWebhook", alone: true, test: (*world).f26},
		{name: "F27NeverRefusesWhileBusy", alone: true, test: (*world).f27},
		{name: "F29EditTouchesOnlyTheDifference", alone: true, test: (*world).f29},
		{name: "F01TwoCachesInTwoNamespaces", test: (*world).f01},
		{name: "F02ListsForSomeNodes", test: (*world).f02},
		{name: "F05AddAndRemove", test: (*world).f05},
		{name: "F06PeriodicRefresh", test: (*world).f06},
		{name: "F08PurgeKeepsTheObject", test: (*world).f08},
		{name: "F09DeleteLeavesImages", test: (*world).f09},
		{name: "F10PresentImagesAreNotPulled", test: (*world).f10},
		{name: "F11WhatIsLookedUpAgain", test: (*world).f11},
		{name: "F14NoNodeSelectedYet", test: (*world).f14},
		{name: "F17StatusAndEvents", test: (*world).f17},
		{name: "F18ReasonsPerOperation", test: (*world).f18},
		{name: "F21TaintedNodes", test: (*world).f21},
		{name: "F22MirrorsOfTheNode", test: (*world).f22},
		{name: "F23NoJobsToConfigure", test: (*world).f23},
		{name: "F24NoHelperImages", test: (*world).f24},
		{name: "F25RefusedAndAccepted", test: (*world).f25},
	} {
		t.Run(row.name, func(t *testing.T) {
			if !row.alone {
				t.Parallel()
			}
			w := *shared
			w.T = t
			row.test(&w)
		})
	}
}

// rowImage makes a small image that no other row has.
func (w *world) rowImage(reference string) testimage.Pushed {
	w.Helper()
	seed := uint64(0)
	for _, c := range []byte(reference) {
		seed = seed*131 + uint64(c)
	}
	return w.push(reference, 1<<14, seed)
}

// untilHolds waits until a node holds images, whatever else it holds.
func (w *world) untilHolds(n *node.Node, images ...testimage.Pushed) {
	w.Helper()
	for _, p := range images {
		eventually(w.T, n.Name()+" holds "+p.Name, func() error { return w.holds(n, p) })
	}
}

func (w *world) holds(n *node.Node, p testimage.Pushed) error {
	w.Helper()
	names := w.names(n)
	if names[p.Name] != p.Digest || names[p.ByDigest()] != p.Digest {
		return fmt.Errorf("holds %v, want %s at %s", names, p.Name, p.Digest)
	}
	return nil
}

// untilLacks waits until a node holds nothing of images.
func (w *world) untilLacks(n *node.Node, images ...testimage.Pushed) {
	w.Helper()
	for _, p := range images {
		eventually(w.T, n.Name()+" does not hold "+p.Name, func() error { return w.lacks(n, p) })
	}
}

func (w *world) lacks(n *node.Node, p testimage.Pushed) error {
	w.Helper()
	for name, digest := range w.names(n) {
		if digest == p.Digest {
			return fmt.Errorf("holds %s", name)
		}
	}
	return nil
}

// untilReason waits until Ready has a reason.
func (w *world) untilReason(name, reason string) *v1alpha1.ImageCache {
	w.Helper()
	return w.until(name, "has the reason "+reason, func(ic *v1alpha1.ImageCache) bool {
		c := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionReady)
		return c != nil && c.Reason == reason
	})
}

// refresh asks for a refresh and waits until it is done.
func (w *world) refresh(name, token string) *v1alpha1.ImageCache {
	w.Helper()
	w.kubectl.must(w.T, "annotate", "--overwrite", "imagecache", name, "edgecache.dev/requestedAt="+token)
	return w.until(name, "handled "+token, func(ic *v1alpha1.ImageCache) bool { return ic.Status.LastHandledRefreshAt == token })
}

// asked gives the requests about a repository.
func (w *world) asked(repository string) registry.Log {
	return w.lab.Registry().Requests().Where(func(r registry.Request) bool { return r.Repository == repository })
}

// pulled counts the blobs of a repository that nodes fetched. The controller reads a
// configuration now and then.
func (w *world) pulled(repository string) int {
	return len(w.asked(repository).Blobs().Where(func(r registry.Request) bool { return !byController(r) }))
}

func byController(r registry.Request) bool {
	return strings.HasPrefix(r.UserAgent, "edgecache-controller")
}

// untilLookedUp waits until a repository's tag was looked up n times.
func (w *world) untilLookedUp(repository string, n int) {
	w.Helper()
	eventually(w.T, fmt.Sprintf("%s is looked up %d times", repository, n), func() error {
		if got := w.lookUps(repository); got < n {
			return fmt.Errorf("%d times", got)
		}
		return nil
	})
}

// lookUps counts how often the controller asked for a repository's manifest.
func (w *world) lookUps(repository string) int {
	return len(w.asked(repository).Where(func(r registry.Request) bool {
		return r.Manifest != "" && byController(r)
	}))
}

func (w *world) f01() {
	pos := w.rowImage("f01/pos:v1")
	for _, namespace := range []string{"f01-a", "f01-b"} {
		w.kubectl.must(w.T, "create", "namespace", namespace)
		w.applyIn(namespace, "pos", listing([]string{pos.Name}))
	}
	for _, namespace := range []string{"f01-a", "f01-b"} {
		w.kubectl.must(w.T, "-n", namespace, "wait", "--for=condition=Ready", "--timeout=5m", "imagecache/pos")
		if out := w.kubectl.must(w.T, "-n", namespace, "get", "ic"); !strings.Contains(out, "3/3") {
			w.Errorf("kubectl -n %s get ic:\n%s", namespace, out)
		}
	}
	for _, n := range w.lab.Nodes() {
		w.untilHolds(n, pos)
	}
}

func (w *world) f02() {
	all, first, second := w.rowImage("f02/all:v1"), w.rowImage("f02/first:v1"), w.rowImage("f02/second:v1")
	w.apply("f02", fmt.Sprintf(`{cacheSpec: [{images: [%q]}, {images: [%q], nodeSelector: {edgecache.dev/site: site-1}},
		{images: [%q], nodeAffinity: {nodeSelectorTerms: [{matchExpressions: [{key: edgecache.dev/site, operator: NotIn, values: [site-1]}]}]}}]}`,
		all.Name, first.Name, second.Name))
	w.untilReady("f02", 3)
	one, two, three := w.lab.Nodes()[0], w.lab.Nodes()[1], w.lab.Nodes()[2]
	w.untilHolds(one, all, first)
	w.untilHolds(two, all, second)
	w.untilHolds(three, all, first)
	w.untilLacks(one, second)
	w.untilLacks(two, first)
	w.untilLacks(three, second)
}

// f04: while images come it says so, and when all are there.
func (w *world) f04() {
	pos, vision := w.push("f04/pos:v1", 1<<20, 41), w.rowImage("f04/vision:v1")
	w.slow(1 << 18)
	w.apply("f04", listing([]string{pos.Name, vision.Name}))
	w.until("f04", "is at work", func(ic *v1alpha1.ImageCache) bool {
		return meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReconciling) && ic.Status.Nodes.Updating > 0
	})
	w.slow(0)
	ic := w.untilReady("f04", 3)
	if c := ic.Status.Conditions; !meta.IsStatusConditionTrue(c, v1alpha1.ConditionFullyCached) || meta.FindStatusCondition(c, v1alpha1.ConditionReconciling) != nil {
		w.Errorf("conditions %s", asJSON(c))
	}
	for _, n := range w.lab.Nodes() {
		w.untilHolds(n, pos, vision)
	}
}

func (w *world) f05() {
	stays, goes, comes := w.rowImage("f05/stays:v1"), w.rowImage("f05/goes:v1"), w.rowImage("f05/comes:v1")
	w.apply("f05", listing([]string{stays.Name, goes.Name}))
	w.untilReady("f05", 3)
	w.apply("f05", listing([]string{stays.Name, comes.Name}))
	w.untilReady("f05", 3)
	for _, n := range w.lab.Nodes() {
		w.untilHolds(n, stays, comes)
		w.untilLacks(n, goes)
		eventually(w.T, "the removal from "+n.Name()+" is acknowledged", func() error {
			if r := asJSON(w.object(n.Name()).Spec.Remove); strings.Contains(r, goes.Name) {
				return fmt.Errorf("still to be removed: %s", r)
			}
			return nil
		})
	}
}

// f06: each cache has its own interval, and 0s is never.
func (w *world) f06() {
	often, never := w.rowImage("f06/often:v1"), w.rowImage("f06/never:v1")
	w.apply("f06-often", listing([]string{often.Name}, "imagePullPolicy: Always", "refreshInterval: 10s"))
	w.apply("f06-never", listing([]string{never.Name}, "imagePullPolicy: Always", "refreshInterval: 0s"))
	w.untilReady("f06-often", 3)
	w.untilReady("f06-never", 3)
	moved, before := w.push("f06/often:v1", 1<<14, 61), w.lookUps("f06/never")
	w.push("f06/never:v1", 1<<14, 62)
	for _, n := range w.lab.Nodes() {
		w.untilHolds(n, moved)
	}
	w.untilLookedUp("f06/often", w.lookUps("f06/often")+1)
	if after := w.lookUps("f06/never"); after != before {
		w.Errorf("a cache without interval was refreshed: %d look-ups, then %d", before, after)
	}
	if got := w.cache("f06-never").Status.Images[0].Digest; got != never.Digest {
		w.Errorf("digest moved to %s without a refresh", got)
	}
}

// f08: a refresh does not bring back what was purged. kube-fledged's annotation does nothing.
func (w *world) f08() {
	pos := w.rowImage("f08/pos:v1")
	spec := func(state string) string { return listing([]string{pos.Name}, "state: "+state) }
	w.apply("f08", spec("Cached"))
	w.untilReady("f08", 3)
	w.kubectl.must(w.T, "annotate", "imagecache", "f08", "kubefledged.io/purge-imagecache=")
	w.refresh("f08", "before")
	w.untilHolds(w.lab.Nodes()[0], pos)
	w.kubectl.must(w.T, "patch", "imagecache", "f08", "--type=merge", "-p", `{"spec":{"state":"Purged"}}`)
	w.untilReason("f08", v1alpha1.ReasonPurged)
	w.refresh("f08", "after")
	for _, n := range w.lab.Nodes() {
		w.untilLacks(n, pos)
	}
	if entries := w.object(w.lab.Nodes()[0].Name()).Spec.Images; strings.Contains(asJSON(entries), pos.Name) {
		w.Errorf("the refresh asks for it again: %s", asJSON(entries))
	}
	w.apply("f08", spec("Cached"))
	w.untilReady("f08", 3)
	w.untilHolds(w.lab.Nodes()[0], pos)
}

// f09: the images stay, and nobody looks after them any more. A cache that asks for them
// later takes them over.
func (w *world) f09() {
	pos := w.rowImage("f09/pos:v1")
	w.apply("f09", listing([]string{pos.Name}))
	w.untilReady("f09", 3)
	w.kubectl.must(w.T, "delete", "imagecache", "f09")
	for _, n := range w.lab.Nodes() {
		eventually(w.T, "the wish of "+n.Name()+" forgets the image", func() error {
			if s := asJSON(w.object(n.Name()).Spec); strings.Contains(s, pos.Name) {
				return fmt.Errorf("spec %s", s)
			}
			return nil
		})
		eventually(w.T, n.Name()+" has heard it", func() error {
			if o := w.object(n.Name()); o.Status.ObservedGeneration != o.Generation {
				return fmt.Errorf("observed %d of %d", o.Status.ObservedGeneration, o.Generation)
			}
			return nil
		})
		w.untilHolds(n, pos)
	}
	before := w.pulled("f09/pos")
	w.apply("f09", listing([]string{pos.Name}))
	w.untilReady("f09", 3)
	if after := w.pulled("f09/pos"); after != before {
		w.Errorf("%d blobs were fetched of an image that was there", after-before)
	}
}

// f10: not for another cache, and not for a refresh.
func (w *world) f10() {
	pos := w.rowImage("f10/pos:v1")
	w.apply("f10-a", listing([]string{pos.Name}))
	w.untilReady("f10-a", 3)
	before := w.pulled("f10/pos")
	if before == 0 {
		w.Error("no node pulled")
	}
	w.apply("f10-b", listing([]string{pos.Name}, "imagePullPolicy: Always"))
	w.untilReady("f10-b", 3)
	w.refresh("f10-a", "again")
	if after := w.pulled("f10/pos"); after != before {
		w.Errorf("%d blobs were fetched again", after-before)
	}
}

// f11: tags that move by habit are looked up at every refresh, others once, digests never;
// what did not move is not pulled.
func (w *world) f11() {
	latest, untagged, tag, digest := w.rowImage("f11/latest:latest"), w.rowImage("f11/untagged:latest"), w.rowImage("f11/tag:v1"), w.rowImage("f11/digest:v1")
	always := w.rowImage("f11/always:v1")
	w.apply("f11", listing([]string{latest.Name, untagged.Repository, tag.Name, digest.ByDigest()}, "refreshInterval: 10s"))
	w.apply("f11-always", listing([]string{always.Name}, "imagePullPolicy: Always", "refreshInterval: 10s"))
	w.untilReady("f11", 3)
	w.untilReady("f11-always", 3)
	still := w.lookUps("f11/tag") + w.lookUps("f11/digest")
	blobs := w.pulled("f11/latest")
	for _, repository := range []string{"f11/latest", "f11/untagged", "f11/always"} {
		w.untilLookedUp(repository, w.lookUps(repository)+1)
	}
	if after := w.lookUps("f11/tag") + w.lookUps("f11/digest"); after != still {
		w.Errorf("a tag and a digest were looked up again: %d times, then %d", still, after)
	}
	if after := w.pulled("f11/latest"); after != blobs {
		w.Errorf("%d blobs were fetched of what did not move", after-blobs)
	}
	moved := w.push("f11/latest:latest", 1<<14, 111)
	for _, n := range w.lab.Nodes() {
		w.untilHolds(n, moved)
	}
}

// f12: at once, whatever the interval.
func (w *world) f12() {
	all, gold := w.rowImage("f12/all:v1"), w.rowImage("f12/gold:v1")
	w.apply("f12", fmt.Sprintf("{refreshInterval: 0s, cacheSpec: [{images: [%q]}, {images: [%q], nodeSelector: {f12: gold}}]}", all.Name, gold.Name))
	w.untilReady("f12", 3)
	two := w.lab.Nodes()[1]
	w.label(two, "f12", "gold")
	w.untilHolds(two, all, gold)
	w.untilLacks(w.lab.Nodes()[0], gold)

	late, err := w.lab.AddNode(w.Context(), node.Spec{Name: "late", Labels: map[string]string{"f12": "gold"}})
	if err != nil {
		w.Fatal(err)
	}
	w.startAgent(late)
	w.untilHolds(late, all, gold)
	w.untilReady("f12", 4)
	if err := w.lab.RemoveNode(w.Context(), "late"); err != nil {
		w.Fatal(err)
	}
	w.untilReady("f12", 3)
}
