package resolution

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	clocktesting "k8s.io/utils/clock/testing"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/resolve"
)

const amd64, arm64 = "linux/amd64", "linux/arm64"

var (
	d3      = digestOf('3')
	missing = v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictNotPullable, Reason: "BlobMissing", Message: "layer sha256:abc is not there"}
	silent  = v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictInconclusive, Reason: "StorageError", Message: "store.example answers 503"}
)

// on selects nodes of platforms.
func on(platforms ...string) func(*Interest) {
	return func(in *Interest) { in.Platforms = func(imageref.Reference) []string { return platforms } }
}

func precheck(mode v1alpha1.PrecheckMode) func(*Interest) {
	return func(in *Interest) { in.Precheck = mode }
}

func edited(in *Interest) { always(in); in.Retry = true }

// breaks makes a digest one that a platform cannot pull.
func (w *world) breaks(d digest.Digest, platform string, check v1alpha1.ImageCheck) {
	if w.bad == nil {
		w.bad = map[digest.Digest]map[string]v1alpha1.ImageCheck{}
	}
	if w.bad[d] == nil {
		w.bad[d] = map[string]v1alpha1.ImageCheck{}
	}
	w.bad[d][platform] = check
}

func TestABadImageIsHeldBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.breaks(d1, arm64, missing)
	if again := w.take(interest("a/x", on(amd64, arm64))); again < 30*time.Second || again > time.Minute {
		t.Errorf("tried again after %s, want about 30s", again)
	}
	w.requests("PROBE linux/amd64,linux/arm64 :v1")
	w.expect("a/x", "", v1alpha1.VerdictNotPullable)
	ref := mustParse(app)
	if w.table.Admits(ref, "a/x") || w.table.Refuses(ref, "a/x") || w.table.Target(ref) != "" {
		t.Errorf("admitted %t, refused %t, target %q", w.table.Admits(ref, "a/x"), w.table.Refuses(ref, "a/x"), w.table.Target(ref))
	}
	w.take(interest("a/x", on(amd64, arm64))) // nothing new
	w.requests()

	w.bad = nil // pushed again
	w.take(interest("a/x", on(amd64, arm64), edited))
	w.requests("PROBE linux/amd64,linux/arm64 :v1")
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
}

func TestATagThatTurnsBadKeepsItsDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/x", on(amd64)))
	w.asked = nil
	w.tags[app] = d2
	w.breaks(d2, amd64, missing)
	w.take(interest("a/x", on(amd64), always))
	w.requests("HEAD :v1", "PROBE linux/amd64 :v1")
	w.expect("a/x", d1, v1alpha1.VerdictNotPullable)
	if _, check := w.table.Known(mustParse(app), "a/x"); !strings.Contains(check.Message, d2.String()) || !strings.Contains(check.Message, missing.Message) {
		t.Errorf("message %q", check.Message)
	}
	if !w.table.Admits(mustParse(app), "a/x") {
		t.Error("what nodes have is taken from them")
	}
	w.tags[app] = d3 // a better one is pushed: the next try finds it by the tag
	w.sync(Key{Ref: mustParse(app), Namespace: "a"})
	w.requests("HEAD :v1", "PROBE linux/amd64 :v1")
	w.expect("a/x", d3, v1alpha1.VerdictPullable)
}

func TestARestartGoesOnWithTheTagThatWasBad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tags[app] = d3
	w.take(interest("a/x", on(amd64), func(in *Interest) {
		in.Known = []v1alpha1.ImageStatus{{Name: app, Digest: d1.String(), Check: &missing}}
	}))
	w.requests("PROBE linux/amd64 :v1")
	w.expect("a/x", d3, v1alpha1.VerdictPullable)
}

func TestARestartChecksNothingAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kept[d1] = true
	known := func(in *Interest) {
		in.Known = []v1alpha1.ImageStatus{{Name: app, Digest: d1.String(), Check: &v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable}}}
	}
	w.take(interest("a/x", on(amd64, arm64), known))
	w.requests()
	w.take(interest("a/x", on(amd64, arm64), always))
	w.requests("HEAD :v1")
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
}

// TestEachForItsNodes: what some nodes cannot pull is held back from the ImageCache that
// selects them, and from no other.
func TestEachForItsNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/amd", on(amd64)))
	w.take(interest("a/arm", on(arm64)))
	w.requests("PROBE linux/amd64 :v1", "HEAD @"+d1.String(), "PROBE linux/arm64 @"+d1.String())
	w.expect("a/amd", d1, v1alpha1.VerdictPullable)
	w.expect("a/arm", d1, v1alpha1.VerdictPullable)

	w.tags[app] = d2
	w.breaks(d2, arm64, missing)
	w.changed = nil
	w.take(interest("a/amd", on(amd64), always))
	w.expect("a/amd", d2, v1alpha1.VerdictPullable)
	w.expect("a/arm", "", v1alpha1.VerdictNotPullable)
	if ref := mustParse(app); w.table.Admits(ref, "a/arm") || w.table.Refuses(ref, "a/arm") {
		t.Error("arm's nodes do not keep what they have") // see nodes.keepImage
	}
	if !slices.Contains(w.changed, "a/arm") {
		t.Errorf("told %v", w.changed)
	}
}

func TestANewPlatformIsCheckedAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.breaks(d1, arm64, missing)
	w.take(interest("a/x", on(amd64)))
	w.asked = nil
	w.take(interest("a/x", on(amd64, arm64)))
	w.requests("HEAD @"+d1.String(), "PROBE linux/arm64 @"+d1.String())
	w.expect("a/x", d1, v1alpha1.VerdictNotPullable) // the nodes that have it keep it
	w.take(interest("a/x", on(amd64, arm64)))
	w.requests()
	w.take(interest("a/x", on(amd64))) // that node left
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
}

func TestInconclusivePassesWhereTheDigestIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.breaks(d1, amd64, silent)
	if again := w.take(interest("a/x", on(amd64))); again <= 0 || again > 10*time.Second {
		t.Errorf("tried again after %s, want about 5s", again)
	}
	w.expect("a/x", d1, v1alpha1.VerdictInconclusive)
	w.bad = nil
	w.asked = nil
	w.sync(Key{Ref: mustParse(app), Namespace: "a"})
	w.requests("HEAD @"+d1.String(), "PROBE linux/amd64 @"+d1.String())
	w.expect("a/x", d1, v1alpha1.VerdictPullable)

	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictInconclusive, Reason: v1alpha1.ReasonNetworkError, Err: errors.New("no")}
	pinned, tagged := mustParse("r.io/other@"+d2.String()), mustParse("r.io/other:v1")
	w.take(interest("b/y", on(amd64), func(in *Interest) { in.Images = []imageref.Reference{pinned, tagged} }))
	if got, check := w.table.Known(pinned, "b/y"); got != d2 || check.Verdict != v1alpha1.VerdictInconclusive || !w.table.Admits(pinned, "b/y") {
		t.Errorf("by digest: %q, %+v", got, check)
	}
	if got, _ := w.table.Known(tagged, "b/y"); got != "" || w.table.Refuses(tagged, "b/y") {
		t.Errorf("by tag: %q, refused %t", got, w.table.Refuses(tagged, "b/y"))
	}
	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonUnauthorized, Err: errors.New("no")}
	w.sync(Key{Ref: pinned, Namespace: "b"})
	if w.table.Admits(pinned, "b/y") || !w.table.Refuses(pinned, "b/y") {
		t.Error("who was let through without an answer stays so without the right")
	}
}

func TestWarnAndOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.breaks(d1, amd64, missing)
	w.take(interest("a/warn", on(amd64), precheck(v1alpha1.PrecheckWarn)))
	w.requests("PROBE linux/amd64 :v1")
	w.expect("a/warn", d1, v1alpha1.VerdictNotPullable)
	w.take(interest("a/off", on(amd64), precheck(v1alpha1.PrecheckOff)))
	w.take(interest("b/off", on(amd64), precheck(v1alpha1.PrecheckOff)))
	w.requests("HEAD @" + d1.String()) // b shows its right
	w.expect("b/off", d1, v1alpha1.VerdictPullable)
	w.take(interest("a/enforce", on(amd64)))
	w.expect("a/enforce", "", v1alpha1.VerdictNotPullable)
	w.asked = nil
	w.take(interest("a/enforce", on(amd64), precheck(v1alpha1.PrecheckWarn)))
	w.expect("a/enforce", d1, v1alpha1.VerdictNotPullable)
	w.requests()
}

// TestALookUpThatFailsHoldsNobodyWhoOnlyWantsToKnow: such as an image without a Linux platform.
func TestALookUpThatFailsHoldsNobodyWhoOnlyWantsToKnow(t *testing.T) {
	t.Parallel()
	for mode, want := range map[v1alpha1.PrecheckMode]v1alpha1.Verdict{
		v1alpha1.PrecheckWarn: v1alpha1.VerdictNotPullable, v1alpha1.PrecheckOff: v1alpha1.VerdictPullable,
	} {
		w := newWorld(t)
		w.unreadable = &resolve.Error{Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonPlatformMissing, Err: errors.New("no")}
		w.take(interest("a/x", on(amd64), precheck(mode)))
		w.expect("a/x", d1, want)
		w.take(interest("a/strict", on(amd64)))
		w.expect("a/strict", "", v1alpha1.VerdictNotPullable)
	}
}

func TestWarnLetsADigestThroughThatTheRegistryRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonNotFound, Err: errors.New("no")}
	pinned := mustParse("r.io/app@" + d2.String())
	w.take(interest("a/x", on(amd64), precheck(v1alpha1.PrecheckWarn), func(in *Interest) { in.Images = []imageref.Reference{pinned} }))
	if got, check := w.table.Known(pinned, "a/x"); got != d2 || check.Verdict != v1alpha1.VerdictNotPullable || !w.table.Admits(pinned, "a/x") {
		t.Errorf("%q, %+v", got, check)
	}
}

func TestNoNodesNeedNoProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/x", on()))
	w.requests("GET :v1")
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
}

func TestCheckTimeFollowsWhatWasFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	w.looker.Clock = clock
	step := func(at, want int64) {
		t.Helper()
		clock.SetTime(time.Unix(at, 0))
		w.sync(Key{Ref: mustParse(app), Namespace: "a"})
		if _, check := w.table.Known(mustParse(app), "a/x"); check.Time.Unix() != want {
			t.Errorf("at %d: time %d, want %d", at, check.Time.Unix(), want)
		}
	}
	w.breaks(d1, amd64, silent)
	w.take(interest("a/x", on(amd64)))
	step(2000, 1000)
	w.breaks(d1, amd64, missing)
	step(3000, 3000)
	step(4000, 3000)
	w.bad = nil
	step(5000, 5000)
	w.take(interest("a/x", on(amd64), always))
	step(6000, 5000)
}
