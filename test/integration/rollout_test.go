package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/testimage"
)

// TestF28RolloutIsSpread: two at a time, one of each site first, a controller killed in the
// middle, a node that is dark; then a change that fails stops at the first nodes.
func TestF28RolloutIsSpread(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6) // sites 1 and 2 in turn
	pos := w.push("retail/pos:v1", 1<<20, 1)
	dark := w.lab.Nodes()[5]
	w.stop(dark)
	log := w.watchRollout(pos)
	limits := "rollout: {maxConcurrentNodes: 2, maxFailurePercent: 0}"
	w.apply("pos", listing([]string{pos.Name}, limits))
	eventually(t, "the rollout has begun", func() error {
		if order, _ := log.seen(); len(order) == 0 {
			return errors.New(asJSON(w.cache("pos").Status))
		}
		return nil
	})
	if err := w.controller.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.controller.Restart(); err != nil {
		t.Fatal(err)
	}
	w.untilReady("pos", 5)
	eventually(t, "the watch has shown all five", func() error {
		if order, _ := log.seen(); len(order) != 5 {
			return fmt.Errorf("shown %v", order)
		}
		return nil
	})
	order, most := log.seen()
	if most > 2 {
		t.Errorf("%d nodes were at work at a time, want at most 2", most)
	}
	if w.site(order[0]) == w.site(order[1]) {
		t.Errorf("%v went first, want one of each site", order[:2])
	}
	if images := w.object(dark.Name()).Spec.Images; len(images) > 0 {
		t.Errorf("a dark node had its turn: %s", asJSON(images))
	}

	t.Log("the dark node is back and gets its turn")
	w.start(dark)
	w.untilReady("pos", 6)

	t.Log("a change that no node can take is held back by its check, and costs no node what it has")
	bad := w.pushForeign("retail/pos:v2")
	w.apply("pos", listing([]string{bad.Name}, limits))
	w.until("pos", "is held back", func(ic *v1alpha1.ImageCache) bool {
		return meta.IsStatusConditionFalse(ic.Status.Conditions, v1alpha1.ConditionPullable)
	})
	if n, kept := w.told(bad), w.told(pos); n != 0 || kept != 6 {
		t.Errorf("%d nodes were told of it and %d keep what they have, want 0 and 6", n, kept)
	}

	t.Log("unchecked, it stops at the first nodes of each site")
	w.apply("pos", listing([]string{bad.Name}, limits, `precheck: "Off"`))
	ic := w.until("pos", "is stalled", func(ic *v1alpha1.ImageCache) bool {
		return meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionStalled)
	})
	stalled := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionStalled)
	if stalled.Reason != v1alpha1.ReasonTooManyFailures || !strings.Contains(stalled.Message, "maxFailurePercent") || !strings.Contains(stalled.Message, "PlatformMissing") {
		t.Errorf("Stalled: %s", asJSON(stalled))
	}
	if n := w.told(bad); n == 0 || n > 2 {
		t.Errorf("%d nodes were told of a change that fails, want one or two", n)
	} else if kept := w.told(pos); kept != 6-n {
		t.Errorf("%d nodes keep what they have, want the %d that were not let in", kept, 6-n)
	}

	t.Log("a better change goes on")
	w.apply("pos", listing([]string{pos.Name}, limits))
	w.untilReady("pos", 6)
}

func (w *world) stop(n *node.Node) {
	w.Helper()
	if err := n.Stop(); err != nil {
		w.Fatal(err)
	}
	if err := w.lab.AwaitReady(w.Context(), n.Name(), false); err != nil {
		w.Fatal(err)
	}
	// Its agent's Lease would say for ten minutes more that it is there.
	err := w.lab.Client().CoordinationV1().Leases(v1alpha1.SystemNamespace).Delete(w.Context(), n.Name(), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) { // it may have been stopped before it renewed one
		w.Fatal(err)
	}
}

func (w *world) start(n *node.Node) {
	w.Helper()
	if err := n.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.startAgent(n)
}

// pushForeign makes an image for a platform that no node has.
func (w *world) pushForeign(reference string) testimage.Pushed {
	w.Helper()
	index, err := testimage.Index(testimage.Spec{Layers: []testimage.Random{{Seed: 9, Size: 1000}}}, v1.Platform{OS: "linux", Architecture: "riscv64"})
	if err != nil {
		w.Fatal(err)
	}
	pushed, err := w.lab.Push(w.Context(), reference, index)
	if err != nil {
		w.Fatal(err)
	}
	return pushed
}

func (w *world) site(name string) string { return w.lab.Node(name).Site() }

// told counts the nodes whose spec asks for an image.
func (w *world) told(p testimage.Pushed) int {
	w.Helper()
	n := 0
	for _, node := range w.lab.Nodes() {
		for _, img := range w.object(node.Name()).Spec.Images {
			if img.Digest == p.Digest {
				n++
			}
		}
	}
	return n
}

// rolloutLog is what one watch of all NodeImageCaches shows of an image's way, in order.
type rolloutLog struct {
	mu      sync.Mutex
	order   []string        // nodes, as they were told
	working map[string]bool // told and not done
	peak    int
}

// watchRollout follows an image until the test ends.
func (w *world) watchRollout(p testimage.Pushed) *rolloutLog {
	w.Helper()
	events, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Watch(w.Context(), metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(events.Stop)
	log := &rolloutLog{working: map[string]bool{}}
	go func() {
		for event := range events.ResultChan() {
			if object, ok := event.Object.(*v1alpha1.NodeImageCache); ok {
				log.take(object, p.Digest)
			}
		}
	}()
	return log
}

func (l *rolloutLog) take(object *v1alpha1.NodeImageCache, digest string) {
	told := slices.ContainsFunc(object.Spec.Images, func(i v1alpha1.NodeImage) bool { return i.Digest == digest })
	done := slices.ContainsFunc(object.Status.Images, func(s v1alpha1.NodeImageStatus) bool {
		return s.Digest == digest && s.Phase == v1alpha1.PhaseCached
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if told && !slices.Contains(l.order, object.Name) {
		l.order = append(l.order, object.Name)
	}
	delete(l.working, object.Name)
	if told && !done {
		l.working[object.Name] = true
	}
	l.peak = max(l.peak, len(l.working))
}

// seen gives the nodes in the order in which they were told, and the most at work at a time.
func (l *rolloutLog) seen() (order []string, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.order), l.peak
}
