package resolution

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/registrycheck/keychain"
	"edgecache.dev/registrycheck/resolve"
)

var d1, d2 = digestOf('1'), digestOf('2')

const app = "r.io/app:v1"

// world is a registry, the contents and the looker under test.
type world struct {
	t      *testing.T
	table  *Table
	looker *Looker

	tags    map[string]digest.Digest // what the registry has
	refusal error                    // of every request; nil while the registry answers

	unreadable error                                            // of all but small requests
	image      resolve.Image                                    // what Resolve gives besides
	bad        map[digest.Digest]map[string]v1alpha1.ImageCheck // what is wrong with digests, by platform
	kept       map[digest.Digest]bool
	asked      []string // requests
	changed    []wish.Owner

	secretErr error // of reading a Secret; nil where there is none of that name
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, table: NewTable(), tags: map[string]digest.Digest{app: d1}, kept: map[digest.Digest]bool{}}
	w.looker = &Looker{
		Table: w.table, Resolver: w, Prober: w, Contents: w, Secrets: w,
		Clock:   clocktesting.NewFakePassiveClock(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)),
		Changed: func(o wish.Owner) { w.changed = append(w.changed, o) },
		Counted: func(v1alpha1.Verdict) {},
	}
	return w
}

// Digest answers a small request.
func (w *world) Digest(_ context.Context, ref imageref.Reference, _ keychain.Keychain) (digest.Digest, error) {
	return w.answer("HEAD", ref)
}

// Resolve answers a full one.
func (w *world) Resolve(_ context.Context, ref imageref.Reference, _ keychain.Keychain) (resolve.Image, error) {
	d, err := w.answer("GET", ref)
	img := w.image
	img.Reference, img.Digest = ref, d
	return img, err
}

// Probe answers what platforms are asked for.
func (w *world) Probe(_ context.Context, ref imageref.Reference, platforms []string, _ keychain.Keychain) (Probed, error) {
	d, err := w.answer("PROBE "+strings.Join(platforms, ","), ref)
	p := Probed{Image: resolve.Image{Reference: ref, Digest: d}, Found: map[string]v1alpha1.ImageCheck{}}
	for _, platform := range platforms {
		p.Found[platform] = v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable}
		if check, ok := w.bad[d][platform]; ok {
			p.Found[platform] = check
		}
	}
	return p, err
}

func (w *world) answer(method string, ref imageref.Reference) (digest.Digest, error) {
	w.asked = append(w.asked, method+" "+strings.TrimPrefix(ref.String(), "r.io/app"))
	if err := w.refusal; err != nil {
		return "", err
	}
	if w.unreadable != nil && method != "HEAD" {
		return "", w.unreadable
	}
	if ref.Digest() != "" {
		return ref.Digest(), nil
	}
	return w.tags[ref.String()], nil
}

// Keep records a content.
func (w *world) Keep(_ context.Context, img resolve.Image) error {
	w.kept[img.Digest] = true
	return nil
}

// Knows says what was recorded.
func (w *world) Knows(_ imageref.Reference, d digest.Digest) bool { return w.kept[d] }

// Secret has none.
func (w *world) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	if w.secretErr != nil {
		return nil, w.secretErr
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func interest(owner wish.Owner, edits ...func(*Interest)) Interest {
	namespace, _, _ := strings.Cut(string(owner), "/")
	in := Interest{Owner: owner, Namespace: namespace, Images: []imageref.Reference{mustParse(app)}, Again: never}
	for _, edit := range edits {
		edit(&in)
	}
	return in
}

func never(imageref.Reference) bool { return false }
func always(in *Interest)           { in.Again = func(imageref.Reference) bool { return true } }

// take gives an interest and does the look-ups that it asks for.
func (w *world) take(in Interest) (again time.Duration) {
	w.t.Helper()
	for _, key := range w.table.Take(in) {
		again = w.sync(key)
	}
	return again
}

func (w *world) sync(key Key) time.Duration {
	w.t.Helper()
	again, err := w.looker.Sync(w.t.Context(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	return again
}

func (w *world) expect(owner wish.Owner, want digest.Digest, verdict v1alpha1.Verdict) {
	w.t.Helper()
	got, check := w.table.Known(mustParse(app), owner)
	if got != want || check == nil && verdict != "" || check != nil && check.Verdict != verdict {
		w.t.Errorf("%s knows %q with %+v, want %q with %q", owner, got, check, want, verdict)
	}
}

func (w *world) requests(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.asked); diff != "" {
		w.t.Errorf("requests (-want +got):\n%s", diff)
	}
	w.asked = nil
}

func TestOneDigestForTheFleet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/x"))
	w.requests("GET :v1")
	w.tags[app] = d2 // the tag moves, nobody asks
	w.take(interest("b/y"))
	w.requests("HEAD @" + d1.String()) // b must show its right to the digest, and does not move the tag
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
	w.expect("b/y", d1, v1alpha1.VerdictPullable)

	w.changed = nil
	w.take(interest("b/y", always)) // b asks for a refresh
	w.requests("HEAD :v1", "GET :v1")
	w.expect("a/x", d2, v1alpha1.VerdictPullable)
	w.expect("b/y", d2, v1alpha1.VerdictPullable)
	slices.Sort(w.changed)
	if !slices.Equal(w.changed, []wish.Owner{"a/x", "b/y"}) {
		t.Errorf("told %v, want both owners", w.changed)
	}
}

// TestWhatNobodyAskedForIsNotFrozen: an agent that reports an image does not choose which
// digest the first ImageCache gets, nor does it move that of one.
func TestWhatNobodyAskedForIsNotFrozen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ours := func(in *Interest) { in.Namespace = "" }
	w.take(interest(v1alpha1.OwnerSandboxImage, ours))
	w.requests("GET :v1")
	w.tags[app] = d2
	w.changed = nil
	w.take(interest("a/x"))
	w.requests("HEAD :v1", "GET :v1")
	w.expect("a/x", d2, v1alpha1.VerdictPullable)
	w.expect(v1alpha1.OwnerSandboxImage, d2, v1alpha1.VerdictPullable)
	slices.Sort(w.changed)
	if !slices.Equal(w.changed, []wish.Owner{"a/x", v1alpha1.OwnerSandboxImage}) {
		t.Errorf("told %v, want both owners", w.changed)
	}

	w.tags[app] = d1
	w.take(interest("b/y"))
	w.table.Drop(v1alpha1.OwnerSandboxImage)
	w.take(interest(v1alpha1.OwnerSandboxImage, ours))
	w.requests("HEAD @"+d2.String(), "HEAD @"+d2.String())
	w.expect("a/x", d2, v1alpha1.VerdictPullable)
}

func TestUnchangedTagCostsOneRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/x"))
	w.asked = nil
	for range 3 {
		w.take(interest("a/x"))         // nothing to do
		w.take(interest("a/x", always)) // a refresh
	}
	w.requests("HEAD :v1", "HEAD :v1", "HEAD :v1")
}

func TestFailureKeepsWhatWasKnown(t *testing.T) {
	t.Parallel()
	for verdict, reason := range map[v1alpha1.Verdict]string{
		v1alpha1.VerdictInconclusive: v1alpha1.ReasonNetworkError, v1alpha1.VerdictNotPullable: v1alpha1.ReasonNotFound,
	} {
		t.Run(string(verdict), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.take(interest("a/x"))
			w.refusal = &resolve.Error{Verdict: verdict, Reason: reason, Err: errors.New("no")}
			if again := w.take(interest("a/x", always)); again <= 0 {
				t.Error("a failed look-up is not tried again")
			}
			w.expect("a/x", d1, verdict)
			if !w.table.Admits(mustParse(app), "a/x") {
				t.Error("who was admitted is not admitted any more")
			}
			if w.table.Pending("a/x") {
				t.Error("a look-up that ended counts as pending")
			}
			w.refusal = nil
			w.sync(Key{Ref: mustParse(app), Namespace: "a"}) // the retry
			w.expect("a/x", d1, v1alpha1.VerdictPullable)
		})
	}
}

func TestStrangersAreNotAdmitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/x"))
	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonUnauthorized, Err: errors.New("no")}
	w.take(interest("b/y"))
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
	w.expect("b/y", "", v1alpha1.VerdictNotPullable)
	if w.table.Admits(mustParse(app), "b/y") {
		t.Error("b is admitted by a's right")
	}
}

func TestRestartLooksNothingUpAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	known := func(in *Interest) {
		in.Known = []v1alpha1.ImageStatus{{Name: app, Digest: d2.String(), Check: &v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable}}}
	}
	w.take(interest("a/x", known))
	w.requests()
	w.expect("a/x", d2, v1alpha1.VerdictPullable)

	w.take(interest("b/y", func(in *Interest) { // caught between two writes
		in.Known = []v1alpha1.ImageStatus{{Name: app, Digest: digestOf('3').String(), Check: &v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable}}}
	}))
	w.requests("GET :v1")
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
	w.expect("b/y", d1, v1alpha1.VerdictPullable)
}

// TestWhatNodesFoundIsNoRight: a cache that had nodes resolve is edited to Controller.
func TestWhatNodesFoundIsNoRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonUnauthorized, Err: errors.New("no")}
	for owner, precheck := range map[wish.Owner]v1alpha1.PrecheckMode{"a/x": v1alpha1.PrecheckEnforce, "b/y": v1alpha1.PrecheckOff} {
		w.take(interest(owner, func(in *Interest) {
			in.Known, in.Precheck = []v1alpha1.ImageStatus{{Name: app, Digest: d2.String(), Sites: &v1alpha1.ImageSites{Sites: 1}}}, precheck
		}))
		w.expect(owner, "", v1alpha1.VerdictNotPullable)
	}
}

func TestAfterRestartARefusalIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/x", func(in *Interest) {
		in.Known = []v1alpha1.ImageStatus{{Name: app, Check: &v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictNotPullable, Reason: "NotFound"}}}
	}))
	w.requests("GET :v1")
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
}

func TestQuietAndTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/x", always, func(in *Interest) { in.Quiet = true }))
	w.requests()
	pinned := mustParse("r.io/app@" + d2.String())
	w.take(interest("a/z", func(in *Interest) { in.Precheck, in.Images = v1alpha1.PrecheckOff, []imageref.Reference{pinned} }))
	w.requests()
	if got := w.table.Target(pinned); got != d2 || !w.table.Admits(pinned, "a/z") {
		t.Errorf("a trusted digest stands for %q, admitted %v", got, w.table.Admits(pinned, "a/z"))
	}
}

func TestWhatWasQuietIsLookedUpLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pinned := func(in *Interest) { in.Images = []imageref.Reference{mustParse("r.io/app@" + d1.String())} }
	w.take(interest("a/x", pinned, func(in *Interest) { in.Quiet = true }))
	w.requests()
	w.take(interest("a/x", pinned))
	w.requests("GET @" + d1.String())
}

func TestTrustComesAtAnyTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pinned := mustParse("r.io/app@" + d1.String())
	on := func(in *Interest) { in.Images = []imageref.Reference{pinned} }
	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonUnauthorized, Err: errors.New("no")}
	w.take(interest("a/x", on))
	if w.table.Admits(pinned, "a/x") {
		t.Error("admitted without the right")
	}
	w.take(interest("a/x", on, func(in *Interest) { in.Precheck = v1alpha1.PrecheckOff }))
	if w.table.Target(pinned) != d1 || !w.table.Admits(pinned, "a/x") {
		t.Error("precheck Off of a cache that is there has no effect")
	}
}

func TestRetryAsksForWhatWasRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonNotFound, Err: errors.New("no")}
	w.take(interest("a/x"))
	if !w.table.Refuses(mustParse(app), "a/x") || w.table.Refuses(mustParse(app), "b/y") {
		t.Error("who asked was refused, who did not was not")
	}
	w.requests("GET :v1")
	w.take(interest("a/x"))
	w.requests()
	w.take(interest("a/x", func(in *Interest) { in.Retry = true }))
	w.requests("GET :v1")
}

func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begin := w.looker.Clock.Now()
	clock := clocktesting.NewFakePassiveClock(begin)
	w.looker.Clock = clock
	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictInconclusive, Reason: v1alpha1.ReasonRateLimited, RetryAfter: time.Hour, Err: errors.New("no")}
	w.take(interest("a/x"))
	w.requests("GET :v1")
	clock.SetTime(begin.Add(20 * time.Minute))
	if again := w.take(interest("a/x", always)); again != 40*time.Minute {
		t.Errorf("asked again after %s, want 40m", again)
	}
	w.requests()
	clock.SetTime(begin.Add(time.Hour))
	w.refusal = nil
	w.sync(Key{Ref: mustParse(app), Namespace: "a"})
	w.expect("a/x", d1, v1alpha1.VerdictPullable)
}

func TestTroubleWithSecretsIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	with := func(in *Interest) { in.Secrets = []string{"typo"} }
	w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonUnauthorized, Message: "not given to anonymous users", Err: errors.New("no")}
	w.take(interest("a/x", with))
	if _, check := w.table.Known(mustParse(app), "a/x"); check.Message != "not given to anonymous users; pull secret a/typo does not exist" {
		t.Errorf("message %q", check.Message)
	}
	w.secretErr = errors.New("forbidden")
	key := w.table.Take(interest("b/y", with))[0]
	if _, err := w.looker.Sync(t.Context(), key); err == nil {
		t.Error("a Secret that cannot be read is not tried again")
	}
	_, check := w.table.Known(mustParse(app), "b/y")
	if check.Reason != v1alpha1.ReasonInternalError || !strings.Contains(check.Message, "forbidden") || w.table.Pending("b/y") {
		t.Errorf("check %+v, pending %v", check, w.table.Pending("b/y"))
	}
}

func TestForgetting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(interest("a/x"))
	w.take(interest("b/y"))
	w.table.Drop("a/x")
	if got := w.table.Target(mustParse(app)); got != d1 {
		t.Errorf("target = %q while b names it", got)
	}
	w.take(interest("b/y", func(in *Interest) { in.Images = nil }))
	if got := w.table.Target(mustParse(app)); got != "" || len(w.table.Targets()) != 0 {
		t.Errorf("target = %q after nobody names it", got)
	}
	w.asked = nil
	w.sync(Key{Ref: mustParse(app), Namespace: "a"}) // a retry that comes late
	w.requests()
}

func TestPending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys := w.table.Take(interest("a/x"))
	if !w.table.Pending("a/x") {
		t.Error("a look-up that waits is not pending")
	}
	w.sync(keys[0])
	if w.table.Pending("a/x") {
		t.Error("a look-up that ended is pending")
	}
}

func TestCheckTimeMovesWithTheVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	w.looker.Clock = clock
	refuse := func(reason string) {
		w.refusal = &resolve.Error{Verdict: v1alpha1.VerdictInconclusive, Reason: reason, Err: errors.New("no")}
	}
	when := func() int64 {
		_, check := w.table.Known(mustParse(app), "a/x")
		return check.Time.Unix()
	}
	refuse(v1alpha1.ReasonNetworkError)
	w.take(interest("a/x"))
	clock.SetTime(time.Unix(2000, 0))
	refuse(v1alpha1.ReasonRateLimited)
	w.sync(Key{Ref: mustParse(app), Namespace: "a"})
	if when() != 1000 {
		t.Errorf("time %d, want 1000: the verdict stayed", when())
	}
	w.refusal = nil
	w.sync(Key{Ref: mustParse(app), Namespace: "a"})
	if when() != 2000 {
		t.Errorf("time %d, want 2000: the verdict changed", when())
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	tests := []struct {
		verdict     v1alpha1.Verdict
		failures    int
		atLeast     time.Duration
		least, most time.Duration
	}{
		{v1alpha1.VerdictInconclusive, 1, 0, 5 * time.Second, 7 * time.Second},
		{v1alpha1.VerdictInconclusive, 4, 0, 40 * time.Second, 51 * time.Second},
		{v1alpha1.VerdictInconclusive, 1000, 0, 5 * time.Minute, 7 * time.Minute},
		{v1alpha1.VerdictNotPullable, 1, 0, 30 * time.Second, 38 * time.Second},
		{v1alpha1.VerdictNotPullable, 50, 0, 30 * time.Minute, 38 * time.Minute},
		{v1alpha1.VerdictInconclusive, 1, time.Hour, time.Hour, time.Hour},
	}
	for _, tc := range tests {
		if got := retry(tc.verdict, tc.failures, tc.atLeast); got < tc.least || got > tc.most {
			t.Errorf("retry(%s, %d, %s) = %s, want %s to %s", tc.verdict, tc.failures, tc.atLeast, got, tc.least, tc.most)
		}
	}
}

func digestOf(c byte) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(string(c), 64)) }

func mustParse(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}
