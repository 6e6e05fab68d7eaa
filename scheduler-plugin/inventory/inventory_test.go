package inventory

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/scheduler-plugin/scoring"
)

const mib = 1 << 20

func dig(name string) string { return "sha256:" + fmt.Sprintf("%064x", name)[:64] }

// fleet is an Inventory with a clock that the test moves.
type fleet struct {
	*Inventory
	t   *testing.T
	now time.Time
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	f.Inventory = New(Options{BytesPerSecond: mib, UnpackBytesPerSecond: 10 * mib, Now: func() time.Time { return f.now }})
	return f
}

// content adds an image of the given layers, of 10 MiB each, for one platform or more.
func (f *fleet) content(name, repository string, layers string, platforms ...string) {
	f.t.Helper()
	o := &v1alpha1.ImageContent{
		ObjectMeta:   metav1.ObjectMeta{Name: v1alpha1.ContentName(digestOf(name)), CreationTimestamp: metav1.NewTime(f.now)},
		Repositories: []string{repository},
	}
	if platforms == nil {
		platforms = []string{"amd64"}
	}
	for _, p := range platforms {
		c := v1alpha1.PlatformContent{OS: "linux", Architecture: p, ManifestDigest: dig(name + p)}
		for l := range strings.FieldsSeq(layers) {
			c.Layers = append(c.Layers, v1alpha1.Layer{Digest: dig(l + p), Size: 10 * mib})
		}
		o.Platforms = append(o.Platforms, c)
	}
	f.SetContent(o)
}

// node adds a node with an agent that holds images of caches, written name=digest.
func (f *fleet) node(name string, held ...string) *v1alpha1.NodeImageCache {
	f.t.Helper()
	f.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelSite: "lisbon"}}, Status: readyStatus(true)})
	f.renew(name)
	o := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name}}
	o.Status.Platform = "linux/amd64"
	for _, h := range held {
		ref, digest, _ := strings.Cut(h, "=")
		o.Spec.Images = append(o.Spec.Images, v1alpha1.NodeImage{Name: ref, Digest: dig(digest)})
		o.Status.Images = append(o.Status.Images, v1alpha1.NodeImageStatus{Name: ref, Digest: dig(digest), Phase: v1alpha1.PhaseCached, Size: 30 * mib})
	}
	f.SetCache(o)
	return o
}

func (f *fleet) renew(name string) {
	f.SetLease(&coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       coordinationv1.LeaseSpec{RenewTime: new(metav1.NewMicroTime(f.now)), LeaseDurationSeconds: new(int32(1800))},
	})
}

func readyStatus(ready bool) corev1.NodeStatus {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}}
}

func want(t *testing.T, text string, policy corev1.PullPolicy) Want {
	t.Helper()
	ref, err := imageref.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return Want{Ref: ref, Name: ref.String(), Policy: policy}
}

func (f *fleet) demand(images ...string) *Demand {
	f.t.Helper()
	var wants []Want
	for _, i := range images {
		wants = append(wants, want(f.t, i, corev1.PullIfNotPresent))
	}
	return f.Demand(Normalize(wants))
}

// missing is what a node misses, in layers of 10 MiB; -1 where nothing is known of it.
func (f *fleet) missing(node string, images ...string) int64 {
	f.t.Helper()
	d := f.demand(images...)
	facts, ok := d.Facts(d.Node(node), true, false)
	if !ok {
		return -1
	}
	return facts.Missing / (10 * mib)
}

func TestSharedLayersCountOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.content("v1", "r.example/app", "base run app1")
	f.content("v2", "r.example/app", "base run app2")
	f.content("side", "r.example/side", "base side")
	f.node("warm", "r.example/app:v2=v2", "r.example/side:v1=side")
	f.node("old", "r.example/app:v1=v1")
	f.node("empty")
	for node, want := range map[string][2]int64{"warm": {0, 0}, "old": {1, 2}, "empty": {3, 4}, "no such node": {-1, -1}} {
		got := [2]int64{f.missing(node, "r.example/app:v2"), f.missing(node, "r.example/app:v2", "r.example/side:v1")}
		if got != want {
			t.Errorf("%s misses %v layers of the image and of the pod with a sidecar, want %v", node, got, want)
		}
	}
	if total := mustFacts(t, f.demand("r.example/app:v2", "r.example/side:v1"), "empty").Total; total != 40*mib {
		t.Errorf("a pod of 4 layers in 2 images has %d bytes", total)
	}
}

func mustFacts(t *testing.T, d *Demand, node string) scoring.Facts {
	t.Helper()
	facts, ok := d.Facts(d.Node(node), true, true)
	if !ok {
		t.Fatalf("nothing is known of %s", node)
	}
	return facts
}

func TestReferences(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.content("v1", "docker.io/library/app", "a b c")
	o := f.node("n", "docker.io/library/app:v1=v1")
	o.Status.OtherImages = []v1alpha1.OtherImage{{Digest: dig("other"), Names: []string{"other:latest"}, Size: 50 * mib}}
	f.SetCache(o)
	f.node("empty")
	tests := map[string][2]int64{ // what n and empty miss
		"app:v1":                   {0, 3},
		"docker.io/library/app:v1": {0, 3},
		"app@" + dig("v1"):         {0, 3},
		"app:v1@" + dig("v1"):      {0, 3},
		"app@" + dig("v1amd64"):    {0, 3}, // by the platform's own digest
		"docker.io/other":          {0, 5},
		"other@" + dig("other"):    {0, 5},
		"app:v2":                   {1, 3}, // a new tag: the layers of v1 but the top one
		"app@" + dig("not known"):  {1, 3},
	}
	for image, want := range tests {
		if got := [2]int64{f.missing("n", image), f.missing("empty", image)}; got != want {
			t.Errorf("%s: n and empty miss %v layers, want %v", image, got, want)
		}
	}
	if f.demand("nobody/knows:v1").Known {
		t.Error("an image is known that nobody knows")
	}
}

func TestADigestedReferenceThatNobodyKnowsSaysNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.node("n")
	if f.demand("elsewhere@" + dig("nowhere")).Known {
		t.Error("an image is known of which there is only the pod's word")
	}
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.content("v1", "r.example/app", "a b c", "amd64", "arm64")
	f.node("amd", "r.example/app:v1=v1")
	arm := f.node("arm")
	arm.Status.Platform = "linux/arm64/v8"
	f.SetCache(arm)
	riscv := f.node("riscv")
	riscv.Status.Platform = "linux/riscv64"
	f.SetCache(riscv)
	if got := f.missing("arm", "r.example/app:v1"); got != 3 {
		t.Errorf("arm misses %d layers, want 3: what amd holds is of another platform", got)
	}
	if bar := mustFacts(t, f.demand("r.example/app:v1"), "riscv").Bar; bar != scoring.WhyOtherPlatform {
		t.Errorf("riscv: %s, want OtherPlatform", bar)
	}
}

func TestAnOlderDigestUnderTheTagStartsThePod(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.content("old", "r.example/app", "a b c")
	f.content("new", "r.example/app", "a b d")
	o := f.node("n")
	o.Spec.Images = []v1alpha1.NodeImage{{Name: "r.example/app:v1", Digest: dig("new")}}
	o.Status.Images = []v1alpha1.NodeImageStatus{{Name: "r.example/app:v1", Digest: dig("new"), Current: dig("old"), Phase: v1alpha1.PhasePending}}
	f.SetCache(o)
	if got := f.missing("n", "r.example/app:v1"); got != 0 {
		t.Errorf("with IfNotPresent %d layers are missing, want none", got)
	}
	d := f.Demand([]Want{want(t, "r.example/app:v1", corev1.PullAlways)})
	if facts := mustFacts(t, d, "n"); facts.Missing == 0 && !facts.AsksRegistry {
		t.Errorf("with Always: %+v, want the registry asked", facts)
	}
}

func TestRemovedAndUnknownImagesAreForgotten(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i := range 20 {
		f.content(fmt.Sprint("c", i), "r.example/app", fmt.Sprint("base l", i), "amd64", "arm64")
		f.node(fmt.Sprint("n", i), fmt.Sprintf("r.example/app:v%d=c%d", i, i))
	}
	d := f.demand("r.example/app:v1")
	d.Promise("pod", d.Node("n2"), time.Second)
	for i := range 20 {
		f.ForgetCache(fmt.Sprint("n", i))
		f.ForgetNode(fmt.Sprint("n", i))
		f.ForgetLease(fmt.Sprint("n", i))
		f.ForgetContent(dig(fmt.Sprint("c", i)))
	}
	if diff := cmp.Diff(Size{}, f.Size()); diff != "" {
		t.Errorf("left of what is gone (-want +got):\n%s", diff)
	}
}

func TestSilentAgentsAreUnknown(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.content("v1", "r.example/app", "a b c")
	f.node("n", "r.example/app:v1=v1")
	if f.missing("n", "r.example/app:v1") != 0 {
		t.Fatal("a node that told is not known")
	}
	f.now = f.now.Add(31 * time.Minute)
	f.Tick(true)
	if got := f.missing("n", "r.example/app:v1"); got != -1 {
		t.Errorf("31 minutes after the last sign of its agent %d layers are missing, want unknown", got)
	}
	if f.Healthy() {
		t.Error("all agents are silent, and all is well")
	}
	f.renew("n")
	f.Tick(false)
	if f.missing("n", "r.example/app:v1") != 0 || !f.Healthy() {
		t.Error("the agent is back, and is not heard")
	}
}

func TestDarkNodesDoNotMakeTheDataStale(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.node("there")
	for i := range 5 {
		f.node(fmt.Sprint("dark", i))
		f.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("dark", i)}, Status: readyStatus(false)})
	}
	f.now = f.now.Add(time.Hour)
	f.renew("there")
	f.Tick(false)
	if !f.Healthy() {
		t.Error("nodes that are switched off count as agents that are silent")
	}
}

func TestTheNodeStandsForAnAgentOfItsIdentity(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	o := f.node("n")
	f.ForgetLease("n")
	if f.missing("n", "r.example/app@"+dig("x")) != -1 {
		t.Fatal("an agent without a Lease is heard")
	}
	o.Status.Heartbeat = v1alpha1.HeartbeatNode
	f.SetCache(o)
	if f.missing("n", "r.example/app@"+dig("x")) == -1 {
		t.Error("the Node is Ready, which stands for its agent, and that is not heard")
	}
}

func TestAnObjectOfAnEarlierNodeSaysNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	o := f.node("n")
	o.Spec.NodeUID = "before"
	f.SetCache(o)
	f.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: types.UID("after")}, Status: readyStatus(true)})
	if f.missing("n", "r.example/app:v1") != -1 {
		t.Error("what is told of another Node of that name is believed")
	}
}

// TestBits holds the set to a map.
func TestBits(t *testing.T) {
	t.Parallel()
	r, b, want := rand.New(rand.NewPCG(3, 4)), bits(nil), map[int]bool{}
	for range 10_000 {
		n := r.IntN(300)
		if r.IntN(2) == 0 {
			b.add(n)
			want[n] = true
		} else {
			b.remove(n)
			delete(want, n)
		}
	}
	for n := range 400 {
		if b.has(n) != want[n] {
			t.Errorf("has(%d) = %v, want %v", n, b.has(n), want[n])
		}
	}
	var joined bits
	joined.add(1000)
	joined.join(b)
	for n := range 300 {
		if joined.has(n) != want[n] {
			t.Errorf("joined: has(%d) = %v, want %v", n, joined.has(n), want[n])
		}
	}
	if !joined.has(1000) || joined.empty() || !bits(nil).empty() {
		t.Error("join lost something, or empty is wrong")
	}
}

func digestOf(name string) digest.Digest { return digest.Digest(dig(name)) }
