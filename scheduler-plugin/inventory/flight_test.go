package inventory

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/scheduler-plugin/scoring"
)

// layers are amounts of a node's estimate, in layers of 10 MiB.
type layers struct{ Missing, Joining, Ahead int64 }

func (f *fleet) layers(node string, images ...string) layers {
	f.t.Helper()
	facts := mustFacts(f.t, f.demand(images...), node)
	return layers{facts.Missing / (10 * mib), facts.Joining / (10 * mib), facts.Ahead / (10 * mib)}
}

func TestPromisedLayersAreJoinedAndQueued(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.content("a", "r.example/a", "base a")
	f.content("b", "r.example/b", "base b")
	for _, n := range []string{"one", "two", "busy"} {
		f.node(n)
	}
	f.node("holder", "r.example/a:v1=a", "r.example/b:v1=b")
	d := f.demand("r.example/a:v1")
	d.Promise("pod", d.Node("one"), 20*time.Second)
	for range 3 { // a pod group's simulation does it again and again
		d.Promise("pod", d.Node("busy"), 20*time.Second)
	}
	want := map[string]layers{"busy": {1, 1, 2}, "one": {2, 0, 2}, "holder": {}}
	for node, w := range want {
		if diff := cmp.Diff(w, f.layers(node, "r.example/b:v1")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", node, diff)
		}
	}
	f.Done("pod")
	if got := f.layers("busy", "r.example/b:v1"); got != (layers{2, 0, 0}) || f.SitesBusy() {
		t.Errorf("after the pod is gone: %+v, sites busy %v", got, f.SitesBusy())
	}
}

func TestPromisesShrinkEndAndAreKept(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.content("a", "r.example/a", "base a")
	n := f.node("one")
	f.node("holder", "r.example/a:v1=a")
	promise := func() {
		d := f.demand("r.example/a:v1")
		d.Promise("pod", d.Node("one"), 100*time.Second)
	}
	promise()
	f.now = f.now.Add(50 * time.Second)
	f.flights.age()
	if got := f.layers("one", "r.example/a:v1"); got != (layers{0, 1, 1}) {
		t.Errorf("half way: %+v", got)
	}
	f.now = f.now.Add(211 * time.Second)
	f.flights.age()
	if got := f.flights.count(); got != 0 {
		t.Errorf("%d promises after twice the time and a minute", got)
	}
	promise()
	n = n.DeepCopy()
	n.Status.Images = []v1alpha1.NodeImageStatus{{Name: "r.example/a:v1", Digest: dig("a"), Phase: v1alpha1.PhaseCached}}
	f.SetCache(n)
	if got := f.flights.count(); got != 0 || f.SitesBusy() {
		t.Errorf("%d promises after the agent told that the image is there, sites busy %v", got, f.SitesBusy())
	}
}

// TestAPullIsUnderstoodWhenItsContentComes: the objects come in any order.
func TestAPullIsUnderstoodWhenItsContentComes(t *testing.T) {
	t.Parallel()
	for _, contentFirst := range []bool{true, false} {
		f := newFleet(t)
		content := func() { f.content("a", "r.example/a", "base a") }
		if contentFirst {
			content()
		}
		n := f.node("one")
		f.node("holder", "r.example/a:v1=a")
		n.Status.Images = []v1alpha1.NodeImageStatus{{
			Name: "r.example/a:v1", Digest: dig("a"), Phase: v1alpha1.PhasePulling, Size: 20 * mib, BytesPulled: 10 * mib,
		}}
		f.SetCache(n)
		if !contentFirst {
			content()
		}
		if got := f.layers("one", "r.example/a:v1"); got != (layers{0, 1, 1}) {
			t.Errorf("content first %v: half of the image is to come, got %+v", contentFirst, got)
		}
		n.Status.Images[0].Phase = v1alpha1.PhaseCached
		f.SetCache(n)
		if got := f.layers("one", "r.example/a:v1"); got != (layers{}) || f.SitesBusy() {
			t.Errorf("content first %v: after the pull %+v, sites busy %v", contentFirst, got, f.SitesBusy())
		}
	}
}

// TestNothingStaysOfWhatIsTakenBack: whatever the order, once each pod's promise is taken back nothing is on its way.
func TestNothingStaysOfWhatIsTakenBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		f, random := newFleet(t), rand.New(rand.NewPCG(seed, 1))
		var images []string
		for i := range 5 {
			name := fmt.Sprintf("i%d", i)
			f.content(name, "r.example/"+name, fmt.Sprintf("base l%d x%d", i%2, i))
			images = append(images, "r.example/"+name+":v1")
			f.node(fmt.Sprintf("holder%d", i), images[i]+"="+name)
		}
		for i := range 4 {
			f.node(fmt.Sprintf("n%d", i))
		}
		pods := func(i int) types.UID { return types.UID(fmt.Sprint("pod", i)) }
		for range 100 {
			pod := pods(random.IntN(10))
			if random.IntN(3) == 0 {
				f.Done(pod)
				continue
			}
			d := f.demand(images[random.IntN(5)])
			d.Promise(pod, d.Node(fmt.Sprintf("n%d", random.IntN(4))), time.Duration(random.IntN(100))*time.Second)
		}
		for i := range 10 {
			f.Done(pods(i))
		}
		if f.flights.count() != 0 || f.SitesBusy() || len(f.flights.on) != 0 {
			t.Fatalf("seed %d: %d promises on %d nodes, sites busy %v", seed, f.flights.count(), len(f.flights.on), f.SitesBusy())
		}
	}
}

// TestMoreMissingIsNeverSooner: of two nodes that differ in one image, the one that has it is ready first.
func TestMoreMissingIsNeverSooner(t *testing.T) {
	t.Parallel()
	rules := scoring.Rules{Equal: 2000, Max: 600_000, FadeFrom: 0.8}
	for seed := range uint64(50) {
		f, random := newFleet(t), rand.New(rand.NewPCG(seed, 2))
		var images, held []string
		for i := range 6 {
			name := fmt.Sprintf("i%d", i)
			f.content(name, "r.example/"+name, fmt.Sprintf("base l%d x%d", random.IntN(3), random.IntN(9)))
			images = append(images, "r.example/"+name+":v1")
			held = append(held, images[i]+"="+name)
		}
		f.node("all", held...)
		n := random.IntN(len(held))
		f.node("less", held[:n]...)
		f.node("more", held[:n+1]...)
		less, more := mustFacts(t, f.demand(images...), "less"), mustFacts(t, f.demand(images...), "more")
		if more.Missing > less.Missing || rules.Estimate(more).Millis > rules.Estimate(less).Millis {
			t.Fatalf("seed %d: with one image more %+v, without %+v", seed, more, less)
		}
	}
}
