package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/limits"
)

func TestReachOf(t *testing.T) {
	t.Parallel()
	lives := &v1alpha1.NodeImageCache{Status: v1alpha1.NodeImageCacheStatus{Heartbeat: v1alpha1.HeartbeatNode}}
	tests := []struct {
		ready  corev1.ConditionStatus
		fresh  bool
		object *v1alpha1.NodeImageCache
		want   Reach
	}{
		{corev1.ConditionTrue, true, nil, Connected},
		{corev1.ConditionFalse, true, nil, Connected},
		{corev1.ConditionUnknown, true, nil, Connected},
		{corev1.ConditionTrue, false, nil, NoAgent},
		{corev1.ConditionTrue, false, &v1alpha1.NodeImageCache{}, NoAgent},
		{corev1.ConditionFalse, false, nil, Unreachable},
		{corev1.ConditionUnknown, false, nil, Unreachable},
		{"", false, nil, Unreachable},
		{corev1.ConditionTrue, false, lives, Connected},
		{corev1.ConditionUnknown, false, lives, Unreachable},
		{corev1.ConditionUnknown, true, lives, Connected}, // the Lease of the agent that it was before
	}
	for _, tc := range tests {
		node := &corev1.Node{}
		if tc.ready != "" {
			node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodeReady, Status: tc.ready}}
		}
		if got := ReachOf(node, tc.fresh, tc.object); got != tc.want {
			t.Errorf("Ready=%q fresh=%v object=%v: %s, want %s", tc.ready, tc.fresh, tc.object, got, tc.want)
		}
	}
}

func TestLeaseClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	type look struct {
		at      time.Duration // since start
		written time.Duration // renewTime, since start
		fresh   bool
		left    time.Duration
	}
	minutes := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	tests := map[string][]look{
		"renewed in time": {
			{0, 0, true, minutes(10)}, {minutes(5), minutes(5), true, minutes(10)}, {minutes(14), minutes(14), true, minutes(10)},
		},
		"goes stale when the renewals stop": {
			{0, 0, true, minutes(10)}, {minutes(9), 0, true, minutes(1)}, {minutes(10), 0, false, 0}, {minutes(60), minutes(60), true, minutes(10)},
		},
		"long dark when first seen": {
			{0, -minutes(30), false, 0}, {minutes(1), minutes(1), true, minutes(10)},
		},
		"renewed a while before it was first seen": {
			{0, -minutes(4), true, minutes(6)},
		},
		"a clock far behind counts from the first renewal seen": {
			{0, -minutes(60 * 24 * 365 * 50), false, 0},
			{minutes(4), -minutes(60*24*365*50 - 4), true, minutes(10)},
			{minutes(13), -minutes(60*24*365*50 - 4), true, minutes(1)},
		},
		"a clock far ahead goes stale all the same": {
			{0, minutes(60 * 24), true, minutes(10)}, {minutes(11), minutes(60 * 24), false, 0},
		},
	}
	for name, looks := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := NewLeaseClock()
			for _, l := range looks {
				now := start.Add(l.at)
				c.Observe(lease("n", start.Add(l.written)), now)
				if fresh, left := c.Fresh("n", now); fresh != l.fresh || left != l.left {
					t.Errorf("at %v: fresh %v for %v, want %v for %v", l.at, fresh, left, l.fresh, l.left)
				}
			}
			c.Forget("n")
			if fresh, _ := c.Fresh("n", start); fresh {
				t.Error("fresh after Forget")
			}
		})
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	v := NewView(limits.Limits{})
	a, b := imageCache("a", "app:v1", "db:v1"), imageCache("b", "app:v1")
	v.Put(a)
	v.Put(b)
	naming := v.Naming(ref(t, "docker.io/library/app:v1"))
	slices.Sort(naming)
	if diff := cmp.Diff([]wish.Owner{"ns/a", "ns/b"}, naming); diff != "" {
		t.Errorf("naming app:v1 (-want +got):\n%s", diff)
	}
	before := v.Get("ns/a")
	v.Put(a.DeepCopy())
	if v.Get("ns/a") != before {
		t.Error("an unchanged cache was compiled again")
	}
	edited := imageCache("a", "app:v2")
	edited.Generation = 2
	v.Put(edited)
	if got := v.Naming(ref(t, "app:v1")); !slices.Equal(got, []wish.Owner{"ns/b"}) {
		t.Errorf("naming app:v1 after the edit = %v", got)
	}
	v.Delete("ns/b")
	if len(v.All()) != 1 || v.Get("ns/b") != nil {
		t.Errorf("after Delete: %d caches", len(v.All()))
	}
}

func TestGaveUp(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		edit func(*v1alpha1.ImageCache)
		want bool
	}{
		"there":                        {func(*v1alpha1.ImageCache) {}, true},
		"being deleted, images retain": {func(ic *v1alpha1.ImageCache) { ic.DeletionTimestamp = new(metav1.Now()) }, false},
		"being deleted, images go": {func(ic *v1alpha1.ImageCache) {
			ic.DeletionTimestamp = new(metav1.Now())
			ic.Spec.DeletionPolicy = v1alpha1.DeletionRemove
		}, true},
		"edited to remove, then deleted": {func(ic *v1alpha1.ImageCache) {
			ic.Spec.DeletionPolicy = v1alpha1.DeletionRemove
			ic.Generation++
		}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := NewView(limits.Limits{})
			ic := imageCache("a", "app:v1")
			v.Put(ic.DeepCopy())
			tc.edit(ic)
			v.Put(ic)
			if got := v.GaveUp("ns/a"); got != tc.want {
				t.Errorf("GaveUp = %v, want %v", got, tc.want)
			}
		})
	}
	if NewView(limits.Limits{}).GaveUp("ns/gone") {
		t.Error("a cache that is gone gives nothing up")
	}
}

func TestWhatIsRefusedCountsAsSuspended(t *testing.T) {
	t.Parallel()
	v := NewView(limits.Limits{{Namespaces: []string{"ns"}, MaxPriority: new(int32(0))}})
	ic := imageCache("a", "app:v1")
	ic.Spec.Priority = 1
	v.Put(ic)
	if got := v.Get("ns/a"); got.State() != v1alpha1.StateSuspended || got.Refusal.Reason != v1alpha1.ReasonNotAllowed || ic.Spec.State != "" {
		t.Errorf("state %s, refusal %v; the object itself has state %q", got.State(), got.Refusal, ic.Spec.State)
	}
	purged := ic.DeepCopy()
	purged.Generation, purged.Spec.State = 2, v1alpha1.StatePurged
	if v.Get("ns/a").Shows(purged) {
		t.Error("the view shows an edit that it has not seen")
	}
	v.Put(purged)
	if got := v.Get("ns/a"); got.State() != v1alpha1.StatePurged || !got.Shows(purged) {
		t.Errorf("state %s, want Purged: giving images up needs no support", got.State())
	}
}

func TestWhatIsNotWeighedCountsAsSuspended(t *testing.T) {
	t.Parallel()
	v := NewView(limits.Limits{{Namespaces: []string{"ns"}, MaxBytes: "1Gi", MaxPriority: new(int32(0))}})
	ic := imageCache("a", "app:v1")
	v.Put(ic)
	before := v.Get("ns/a")
	if before.State() != v1alpha1.StateSuspended || before.Refusal != (Refusal{}) || !before.Resolves() {
		t.Errorf("state %s, refusal %v, looked up %v, want Suspended, none, true", before.State(), before.Refusal, before.Resolves())
	}
	fits := v.Judge(before, Refusal{})
	if fits.State() != v1alpha1.StateCached || v.Get("ns/a") != fits || v.All()[0].State() != v1alpha1.StateCached || v.Judge(fits, Refusal{}) != fits {
		t.Errorf("state %s of what fits, or the view does not show it", fits.State())
	}
	heavy := v.Judge(fits, Refusal{v1alpha1.ReasonNotAllowed, "too much"})
	if heavy.State() != v1alpha1.StateSuspended || heavy.Refusal.Message != "too much" || !heavy.Resolves() {
		t.Errorf("state %s, refusal %v of what does not fit", heavy.State(), heavy.Refusal)
	}
	edited := imageCache("a", "app:v2")
	edited.Generation = 2
	v.Put(edited)
	if v.Judge(heavy, Refusal{}); v.Get("ns/a").State() != v1alpha1.StateSuspended {
		t.Error("an edit is served that was not weighed")
	}
	barred := imageCache("a", "app:v2")
	barred.Generation, barred.Spec.Priority = 3, 1
	v.Put(barred)
	if got := v.Judge(v.Get("ns/a"), Refusal{}); got.State() != v1alpha1.StateSuspended || got.Refusal.Reason == "" || got.Resolves() {
		t.Errorf("state %s, refusal %v, looked up %v of what its spec bars", got.State(), got.Refusal, got.Resolves())
	}
	barred.DeletionTimestamp = new(metav1.Now())
	v.Put(barred)
	if got := v.Get("ns/a").State(); got != v1alpha1.StatePurged {
		t.Errorf("state %s of what is being deleted", got)
	}
}

func TestStrayed(t *testing.T) {
	t.Parallel()
	lisbon := func(ic *v1alpha1.ImageCache) *v1alpha1.ImageCache {
		ic.Spec.CacheSpec[0].NodeSelector = map[string]v1alpha1.LabelValue{"site": "lisbon"}
		return ic
	}
	node := func(site string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"site": site}}}
		n.Status.NodeInfo.OperatingSystem = "linux"
		return n
	}
	app := ref(t, "app:v1")
	v := NewView(limits.Limits{})
	v.Put(imageCache("a", "app:v1"))
	if v.Strayed("ns/a", app, node("porto")) {
		t.Error("a node that is selected strayed")
	}
	edited := lisbon(imageCache("a", "app:v1"))
	edited.Generation = 2
	v.Put(edited)
	if v.Strayed("ns/a", app, node("porto")) {
		t.Error("an edit of the selectors counts as the node's doing")
	}
	again := edited.DeepCopy()
	again.Generation, again.Spec.Priority = 3, 5
	v.Put(again)
	if !v.Strayed("ns/a", app, node("porto")) || v.Strayed("ns/a", ref(t, "db:v1"), node("porto")) {
		t.Error("a node whose label changed did not stray, or strayed from what is not named")
	}
	restarted := NewView(limits.Limits{})
	restarted.Put(again)
	if !restarted.Strayed("ns/a", app, node("porto")) || restarted.Strayed("ns/gone", app, node("porto")) {
		t.Error("who cannot tell does not keep the image, or keeps it for nobody")
	}
	again.DeletionTimestamp = new(metav1.Now())
	restarted.Put(again)
	if restarted.Strayed("ns/a", app, node("porto")) {
		t.Error("a cache that is being deleted keeps an image")
	}
}

func lease(name string, renewed time.Time) *coordinationv1.Lease {
	l := &coordinationv1.Lease{}
	l.Name = name
	l.Spec.RenewTime = new(metav1.NewMicroTime(renewed))
	l.Spec.LeaseDurationSeconds = new(int32(600))
	return l
}

func imageCache(name string, images ...v1alpha1.ImageReference) *v1alpha1.ImageCache {
	return &v1alpha1.ImageCache{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec:       v1alpha1.ImageCacheSpec{CacheSpec: []v1alpha1.CacheSpecImages{{Images: images}}},
	}
}

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
