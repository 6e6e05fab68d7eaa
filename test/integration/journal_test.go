package integration

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/product"
)

// events gives the Events about the object of a node, the earliest first.
func (w *world) events(n *node.Node) []corev1.Event {
	w.Helper()
	list, err := w.lab.Client().CoreV1().Events(v1alpha1.SystemNamespace).List(w.Context(), metav1.ListOptions{
		FieldSelector: "involvedObject.kind=NodeImageCache,involvedObject.name=" + n.Name(),
	})
	if err != nil {
		w.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	return list.Items
}

func reasons(events []corev1.Event) (all []string) {
	for i := range events {
		all = append(all, events[i].Reason)
	}
	slices.Sort(all)
	return all
}

// TestWhatHappenedIsTold: a node is alone, loses an image and its store, and has both back by itself. When the API server
// is there again it hears of it, once, with the times at which it happened.
func TestWhatHappenedIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	n := w.lab.Nodes()[0]
	pos := w.push("retail/pos:v1", 1<<20, 1)
	w.apply("pos", listing([]string{pos.Name}))
	w.untilReady("pos", 1) // which the status tells: there is no Event while the API server is there

	if err := w.lab.ControlPlane().KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := product.RemoveFromLayout(n, pos.Digest); err != nil {
		t.Fatal(err)
	}
	w.expectNames(n, pos)
	w.untilLogged(w.agents[n.Name()], "Image is lost", 1)
	agent := w.agents[n.Name()]
	if err := agent.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(filepath.Join(product.StateDir(n), store.FileName), 9000), product.RemoveFromLayout(n, pos.Digest), agent.Restart()); err != nil {
		t.Fatal(err)
	}
	w.expectNames(n, pos) // by the snapshot of the wish
	w.untilLogged(agent, `peer="kube-apiserver" state="Down"`, 1)
	back := time.Now()

	if err := w.lab.ControlPlane().StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"ImageCached", "LinkDown", "StoreMadeAnew"}
	w.untilTold(n, want...)
	for _, e := range w.events(n) {
		if e.EventTime.After(back) || !e.FirstTimestamp.Equal(&e.LastTimestamp) || e.Annotations != nil {
			t.Errorf("%s is told for %s, after %s when all had happened: %+v", e.Reason, e.EventTime, back, e)
		}
	}
	if err := errors.Join(agent.Kill(), agent.Restart()); err != nil {
		t.Fatal(err)
	}
	w.stays("nothing is told twice", 20*time.Second, func() error {
		if got := reasons(w.events(n)); !slices.Equal(got, want) {
			return fmt.Errorf("told %v", got)
		}
		return nil
	})
}

func (w *world) untilTold(n *node.Node, want ...string) {
	w.Helper()
	eventually(w.T, fmt.Sprintf("%v are told", want), func() error {
		if got := reasons(w.events(n)); !slices.Equal(got, want) {
			return fmt.Errorf("told %v", got)
		}
		return nil
	})
}

// killsEnv says how often the agent is killed; 50 without.
const killsEnv = "EDGECACHE_KILLS"

// TestKilledAtRandom kills the agent at random moments while images come and go and the wish changes. Its store opens
// every time, no image that is wished all along is lost, and the end is as wished.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	kills, err := strconv.Atoi(cmp.Or(os.Getenv(killsEnv), "50"))
	if err != nil {
		t.Fatalf("%s: %v", killsEnv, err)
	}
	w := newWorld(t, 1)
	n := w.lab.Nodes()[0]
	agent := w.agents[n.Name()]
	kept := w.push("retail/kept:v1", 1<<20, 1)
	w.apply("kept", listing([]string{kept.Name}))
	w.untilReady("kept", 1)
	w.slow(4 << 20)
	var some []string
	for i := range 4 {
		some = append(some, w.push(fmt.Sprintf("retail/some%d:v1", i), 2<<20, uint64(i)+2).Name)
	}
	for i := range kills {
		switch i % 3 {
		case 0:
			w.apply("some", listing(some[:1+rand.IntN(len(some))], "deletionPolicy: Remove"))
		case 2:
			w.removeCache("some")
		}
		time.Sleep(time.Duration(rand.IntN(1200)) * time.Millisecond)
		if err := agent.Kill(); err != nil {
			t.Fatal(err)
		}
		if got := w.names(n); got[kept.Name] != kept.Digest || got[kept.ByDigest()] != kept.Digest {
			t.Fatalf("after %d kills %s is lost: %v", i+1, kept.Name, got)
		}
		if err := agent.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	w.slow(0)
	if kills%3 != 0 {
		w.removeCache("some")
	}
	w.expectNames(n, kept)
	for _, said := range []string{"The store was damaged", "works from memory", "Store not written", "The image layout was damaged"} {
		if lines := w.logged(agent, said); lines != 0 {
			t.Errorf("%d times in the agent's log: %s", lines, said)
		}
	}
	if starts := w.logged(agent, `"Starting" program="edgecache-agent"`); starts < kills/2 {
		t.Errorf("%d kills met %d agents that had begun", kills, starts)
	}
	if left := len(w.blobs(n)); left != 3 {
		t.Logf("%d blobs are left of %d kills, three are wished", left, kills)
	}
	expectIntact(t, filepath.Join(product.StateDir(n), store.FileName), agent.Stop(time.Minute))
}

// expectIntact looks over a store whose agent has ended.
func expectIntact(t *testing.T, path string, ended error) {
	t.Helper()
	if err := errors.Join(ended, store.CheckFile(path)); err != nil {
		t.Error(err)
	}
}
