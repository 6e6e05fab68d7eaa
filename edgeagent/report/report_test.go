package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

var began = metav1.NewTime(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))

func TestBuildPhases(t *testing.T) {
	t.Parallel()
	d, old := digestOf("a"), digestOf("b")
	missing := plan.Steps{Missing: []plan.Image{{Ref: ref("r.io/app:v1"), Digest: d}}}
	failure := &store.Failure{Digest: d.String(), Reason: "NotFound", Message: "no such manifest", Attempts: 3, Since: began.Time}
	name := "r.io/app:v1"
	tests := map[string]struct {
		state State
		want  v1alpha1.NodeImageStatus
	}{
		"cached": {
			State{Steps: plan.Steps{Cached: missing.Missing}, Inventory: runtime.Inventory{ref(name): {Digest: d, Size: 7}}},
			v1alpha1.NodeImageStatus{Phase: v1alpha1.PhaseCached, Size: 7},
		},
		"waiting for its turn": {
			State{Steps: missing}, v1alpha1.NodeImageStatus{Phase: v1alpha1.PhasePending},
		},
		"coming in, pods still start from the old one": {
			State{Steps: missing, Inventory: runtime.Inventory{ref(name): {Digest: old}}, Work: map[string]Work{name: {Pulling: true, Size: 10, Done: 4, Since: began}}},
			v1alpha1.NodeImageStatus{Phase: v1alpha1.PhasePulling, Current: old.String(), Size: 10, BytesPulled: 4, Since: &began},
		},
		"failed, and being tried without bytes so far": {
			State{Steps: missing, Ledger: map[string]store.Entry{name: {Failure: failure}}, Work: map[string]Work{name: {Pulling: true}}},
			v1alpha1.NodeImageStatus{Phase: v1alpha1.PhaseFailed, Reason: "NotFound", Message: "no such manifest", Attempts: 3, Since: &began},
		},
		"failed before, bytes come now": {
			State{Steps: missing, Ledger: map[string]store.Entry{name: {Failure: failure}}, Work: map[string]Work{name: {Pulling: true, Moved: true, Done: 1, Since: began}}},
			v1alpha1.NodeImageStatus{Phase: v1alpha1.PhasePulling, BytesPulled: 1, Attempts: 3, Since: &began},
		},
		"a failure of another digest is over": {
			State{Steps: missing, Ledger: map[string]store.Entry{name: {Failure: &store.Failure{Digest: old.String(), Reason: "NotFound"}}}},
			v1alpha1.NodeImageStatus{Phase: v1alpha1.PhasePending},
		},
		"to be removed, in use": {
			State{Steps: plan.Steps{Removals: []plan.Removal{{Name: name, Digest: d.String(), Since: began.Time, InUse: true}}}},
			v1alpha1.NodeImageStatus{Phase: v1alpha1.PhaseRemoving, Reason: "InUse", Message: "a container uses the image", Since: &began},
		},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			tc.want.Name, tc.want.Digest = name, d.String()
			got := Build(tc.state, nil)
			if diff := cmp.Diff([]v1alpha1.NodeImageStatus{tc.want}, got.Images); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuildSummary(t *testing.T) {
	t.Parallel()
	got := Build(State{
		Generation: 4,
		Steps: plan.Steps{
			Cached:  []plan.Image{{Ref: ref("r.io/a:v1"), Digest: digestOf("a")}},
			Missing: []plan.Image{{Ref: ref("r.io/b:v1"), Digest: digestOf("b")}},
		},
		Ledger: map[string]store.Entry{"r.io/b:v1": {Failure: &store.Failure{Digest: digestOf("b").String(), Reason: "NetworkError"}}},
		Inventory: runtime.Inventory{
			ref("r.io/a:v1"):     {Digest: digestOf("a"), Complete: true},
			ref("r.io/other:v1"): {Digest: digestOf("c"), Complete: true, Size: 5},
			ref("r.io/other:v2"): {Digest: digestOf("c"), Complete: true, Size: 5},
			ref("r.io/other:v3"): {Digest: digestOf("c"), Complete: true, Size: 5},
			ref("r.io/half:v1"):  {Digest: digestOf("d")},
		},
		Node:    Node{Disk: &v1alpha1.DiskStatus{Capacity: 100 << 30, Available: 12345 << 20}},
		Trouble: "the store is read-only",
	}, nil)
	if diff := cmp.Diff(v1alpha1.NodeImageCacheSummary{Cached: "1/2", Failed: 1, Available: "12 GiB"}, got.Summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	others := []v1alpha1.OtherImage{{Digest: digestOf("c").String(), Names: []string{"r.io/other:v1", "r.io/other:v2"}, Size: 5}}
	if diff := cmp.Diff(others, got.OtherImages); diff != "" {
		t.Errorf("other images (-want +got):\n%s", diff)
	}
	var conditions []string
	for _, c := range got.Conditions {
		conditions = append(conditions, fmt.Sprintf("%s=%s/%s: %s (%d)", c.Type, c.Status, c.Reason, c.Message, c.ObservedGeneration))
	}
	want := []string{"Ready=False/ImagesFailing: 1 of 2 images are cached, 1 failing (4)", "Degraded=True/Degraded: the store is read-only (4)"}
	if diff := cmp.Diff(want, conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if healed := Build(State{}, got.Conditions); len(healed.Conditions) != 1 {
		t.Errorf("conditions after the trouble: %v, want Ready only", healed.Conditions)
	}
}

// TestSizes holds the object to its budget: 1,000 failing images with the longest names
// and messages, and the usual case of 50 cached images.
func TestSizes(t *testing.T) {
	t.Parallel()
	worst := statusOf(1000, 255, func(s *v1alpha1.NodeImageStatus) {
		s.Phase, s.Reason, s.Message = v1alpha1.PhaseFailed, "InsufficientDisk", strings.Repeat("é", 2000)
		s.Attempts, s.Size, s.BytesPulled, s.Since = 1000, 1<<40, 1<<39, &began
		s.Current = s.Digest
	})
	for range 100 {
		worst.OtherImages = append(worst.OtherImages, v1alpha1.OtherImage{Digest: digestOf("a").String(), Names: []string{strings.Repeat("n", 255), strings.Repeat("m", 255)}})
	}
	fit(worst)
	if got := size(worst); got > maxStatusBytes {
		t.Errorf("1,000 failing images: %d bytes, at most %d", got, maxStatusBytes)
	}
	if worst.Images[0].Reason == "" || len(worst.Images) != 1000 {
		t.Error("an image or its reason gave way")
	}
	usual := statusOf(50, 48, func(s *v1alpha1.NodeImageStatus) { s.Phase, s.Size = v1alpha1.PhaseCached, 123456789 })
	if got := size(usual); got > 12<<10 {
		t.Errorf("50 cached images: %d bytes, at most 12 KiB", got)
	}
}

// TestAThousandFailures: what is offered of a node on which 1,000 images with the longest
// names fail with messages of 4 KB leaves the object below 1 MiB, beside the largest spec,
// whatever the messages are.
func TestAThousandFailures(t *testing.T) {
	t.Parallel()
	for title, part := range map[string]string{
		"words": "connection refused; ", "HTML": "<html>&", "controls": "\x01", "no ASCII": "é€😀", "no UTF-8": "\xff", "quotes": `"\`,
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			message := strings.Repeat(part, 4096/len(part)+1)
			state := State{Ledger: map[string]store.Entry{}, Inventory: runtime.Inventory{}, Trouble: message, Node: Node{
				Disk: &v1alpha1.DiskStatus{Capacity: 1 << 50, Available: 1 << 40, Reserve: 1 << 40}, BootID: strings.Repeat("b", 64),
			}}
			for i := range 1000 {
				img := plan.Image{Ref: ref(fmt.Sprintf("r.io/%0*d:v1", imageref.MaxLength-len("r.io/:v1"), i)), Digest: digestOf("a")}
				state.Steps.Missing = append(state.Steps.Missing, img)
				state.Inventory[img.Ref] = runtime.Held{Digest: digestOf("b"), Complete: true}
				state.Ledger[img.Ref.String()] = store.Entry{Failure: &store.Failure{
					Digest: img.Digest.String(), Reason: "InsufficientDisk", Message: message, Attempts: 1000, Since: began.Time,
				}}
			}
			status := Build(state, nil)
			r := NewReporter(nil)
			r.Offer("uid", &status)
			offered := r.newest().status
			t.Logf("%d bytes, messages of %d", size(offered), len(offered.Images[0].Message))
			if got := size(offered) + specShare; got > 1<<20 {
				t.Errorf("%d bytes with the largest spec, at most 1 MiB", got)
			}
			if n := len(offered.Images); n != 1000 || offered.Images[999].Reason != "InsufficientDisk" || offered.Summary.Failed != 1000 {
				t.Errorf("%d images, %d failed, the last for %q", n, offered.Summary.Failed, offered.Images[n-1].Reason)
			}
		})
	}
}

func TestMessagesGiveWayFirst(t *testing.T) {
	t.Parallel()
	s := statusOf(700, 200, func(s *v1alpha1.NodeImageStatus) {
		s.Phase, s.Message = v1alpha1.PhaseFailed, strings.Repeat("m", 3000)
	})
	s.OtherImages = []v1alpha1.OtherImage{{Digest: digestOf("a").String()}}
	fit(s)
	if len(s.OtherImages) != 1 || len(s.Images[0].Message) == 0 || len(s.Images[0].Message) > someMessage {
		t.Errorf("other images %d, message of %d bytes: want messages cut to %d first", len(s.OtherImages), len(s.Images[0].Message), someMessage)
	}
}

func TestWorth(t *testing.T) {
	t.Parallel()
	base := func() *v1alpha1.NodeImageCacheStatus {
		s := statusOf(2, 20, func(s *v1alpha1.NodeImageStatus) { s.Phase, s.Size, s.BytesPulled = v1alpha1.PhasePulling, 1000, 100 })
		s.Disk = &v1alpha1.DiskStatus{Capacity: 1000, Available: 500}
		return s
	}
	tests := map[string]struct {
		edit func(*v1alpha1.NodeImageCacheStatus)
		want urgency
	}{
		"nothing":                                 {func(*v1alpha1.NodeImageCacheStatus) {}, none},
		"a little progress":                       {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].BytesPulled = 149 }, none},
		"five percent":                            {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[0].BytesPulled = 150 }, minor},
		"a little disk":                           {func(s *v1alpha1.NodeImageCacheStatus) { s.Disk.Available = 451; s.Summary.Available = "x" }, none},
		"much disk":                               {func(s *v1alpha1.NodeImageCacheStatus) { s.Disk.Available = 450 }, minor},
		"another image":                           {func(s *v1alpha1.NodeImageCacheStatus) { s.OtherImages = []v1alpha1.OtherImage{{Digest: "d"}} }, minor},
		"a phase, another image is under way":     {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[1].Phase = v1alpha1.PhaseCached }, step},
		"a generation, images are under way":      {func(s *v1alpha1.NodeImageCacheStatus) { s.ObservedGeneration++ }, step},
		"an image less, another one is under way": {func(s *v1alpha1.NodeImageCacheStatus) { s.Images = s.Images[:1] }, step},
		"the last image is there":                 {func(s *v1alpha1.NodeImageCacheStatus) { finish(s) }, urgent},
		"a generation, and nothing is under way":  {func(s *v1alpha1.NodeImageCacheStatus) { finish(s); s.ObservedGeneration++ }, urgent},
		"a removal, images are under way":         {func(s *v1alpha1.NodeImageCacheStatus) { s.Images[1].Phase = v1alpha1.PhaseRemoving }, urgent},
		"a trouble, images are under way":         {func(s *v1alpha1.NodeImageCacheStatus) { s.Conditions = append(s.Conditions, degraded("x", 1)) }, urgent},
		"the node is ready for an older generation": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Conditions = append(s.Conditions, metav1.Condition{Type: v1alpha1.NodeConditionReady, Status: metav1.ConditionTrue})
		}, step},
		"what a tag stands for, images are under way": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Images[1].Resolved = &v1alpha1.ResolvedTag{Digest: "d"}
		}, answer},
		"an image is there, and the other has no digest yet": {func(s *v1alpha1.NodeImageCacheStatus) {
			s.Images[0].Phase = v1alpha1.PhaseCached
			s.Images[1].Phase, s.Images[1].Digest = v1alpha1.PhasePending, ""
		}, urgent},
		"a first failure": {func(s *v1alpha1.NodeImageCacheStatus) { fail(&s.Images[1]) }, urgent},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next := base()
			tc.edit(next)
			if got := worth(base(), next); got != tc.want {
				t.Errorf("worth = %d, want %d", got, tc.want)
			}
		})
	}
	if got := worth(nil, base()); got != urgent {
		t.Errorf("the first status is worth %d, want urgent", got)
	}
}

// TestWorthOfAnswers: an answer of a registry is told within seconds, also while images are
// under way, and not that it is outdated.
func TestWorthOfAnswers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before, after *v1alpha1.ResolvedTag
		want          urgency
	}{
		"a token":         {&v1alpha1.ResolvedTag{Digest: "1", RefreshToken: "s"}, &v1alpha1.ResolvedTag{Digest: "1", RefreshToken: "t"}, answer},
		"a digest":        {&v1alpha1.ResolvedTag{Digest: "1"}, &v1alpha1.ResolvedTag{Digest: "2", Newer: true}, answer},
		"no answer":       {&v1alpha1.ResolvedTag{Digest: "1"}, &v1alpha1.ResolvedTag{Digest: "1", Reason: "NetworkError"}, answer},
		"newer, as heard": {&v1alpha1.ResolvedTag{Digest: "2", Newer: true}, &v1alpha1.ResolvedTag{Digest: "2", Newer: true}, answer},
		"another reason":  {&v1alpha1.ResolvedTag{Reason: "NetworkError"}, &v1alpha1.ResolvedTag{Reason: "RegistryError"}, step},
		"outdated":        {&v1alpha1.ResolvedTag{Digest: "1", RefreshToken: "s"}, &v1alpha1.ResolvedTag{RefreshToken: "s"}, step},
		"as wished now":   {&v1alpha1.ResolvedTag{Digest: "2", Newer: true}, &v1alpha1.ResolvedTag{Digest: "2"}, step},
		"nobody asks now": {&v1alpha1.ResolvedTag{Digest: "2"}, nil, step},
	}
	for name, tc := range tests {
		last := statusOf(2, 20, func(s *v1alpha1.NodeImageStatus) { s.Phase = v1alpha1.PhasePulling })
		next := last.DeepCopy()
		next.ObservedGeneration++
		last.Images[0].Resolved, next.Images[0].Resolved = tc.before, tc.after
		if got := worth(last, next); got != tc.want {
			t.Errorf("%s: worth %d, want %d", name, got, tc.want)
		}
	}
}

// TestManyAnswersAreFewWrites: a hundred tags that are looked up one after the other, then
// registries that fail in turns.
func TestManyAnswersAreFewWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &paper{start: time.Now()}
		r := NewReporter(p)
		go r.Run(t.Context())
		s := statusOf(100, 20, nil)
		for i := range s.Images {
			s.Images[i].Digest = ""
		}
		r.Offer("a", s.DeepCopy())
		for i := range s.Images {
			time.Sleep(1500 * time.Millisecond)
			s.Images[i].Resolved = &v1alpha1.ResolvedTag{Digest: "d"}
			r.Offer("a", s.DeepCopy())
		}
		time.Sleep(time.Minute)
		_, found := p.read()
		if found > 55 {
			t.Errorf("%d writes of 100 answers in 150 s", found)
		}
		for k := range 1000 {
			time.Sleep(6 * time.Second)
			i := &s.Images[k%50]
			i.Resolved = &v1alpha1.ResolvedTag{Digest: "d", Reason: []string{"NetworkError", "RegistryError"}[k/50%2]}
			r.Offer("a", s.DeepCopy())
		}
		if _, all := p.read(); all-found > 200 {
			t.Errorf("%d writes of other reasons in 100 minutes", all-found)
		}
	})
}

func finish(s *v1alpha1.NodeImageCacheStatus) {
	for i := range s.Images {
		s.Images[i].Phase = v1alpha1.PhaseCached
	}
}

func fail(i *v1alpha1.NodeImageStatus) { i.Phase, i.Attempts = v1alpha1.PhaseFailed, 1 }

// TestWorthOfFailures: that a node begins to fail is told at once, what fails after that
// with what else happens, as long as something is under way.
func TestWorthOfFailures(t *testing.T) {
	t.Parallel()
	last := statusOf(3, 20, func(s *v1alpha1.NodeImageStatus) { s.Phase = v1alpha1.PhasePulling })
	for i, want := range []urgency{urgent, step, urgent} {
		next := last.DeepCopy()
		fail(&next.Images[i])
		if got := worth(last, next); got != want {
			t.Errorf("failure %d is worth %d, want %d", i+1, got, want)
		}
		last = next
	}
}

// paper records what is written, and fails while it is torn.
type paper struct {
	mu    sync.Mutex
	torn  bool
	tries int
	lines []string
	start time.Time
}

func (p *paper) WriteStatus(_ context.Context, uid types.UID, s *v1alpha1.NodeImageCacheStatus) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if p.torn {
		return errors.New("torn")
	}
	p.lines = append(p.lines, fmt.Sprintf("%s gen %d after %s", uid, s.ObservedGeneration, time.Since(p.start).Round(time.Minute)))
	return nil
}

func (p *paper) read() (lines []string, tries int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines), p.tries
}

func TestReporter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &paper{start: time.Now()}
		r := NewReporter(p)
		go r.Run(t.Context())
		offer := func(uid types.UID, generation int64, cached int) { // of 50 images
			s := statusOf(50, 20, func(s *v1alpha1.NodeImageStatus) { s.Phase = v1alpha1.PhasePulling })
			finish(&v1alpha1.NodeImageCacheStatus{Images: s.Images[:cached]})
			s.ObservedGeneration = generation
			r.Offer(uid, s)
		}
		for i := range int64(10) { // changes that come together are one write
			offer("a", i, 0)
		}
		time.Sleep(5 * time.Second)
		for i := range 40 { // an hour of steps: few writes, of the newest
			offer("a", 9, i)
			time.Sleep(90 * time.Second)
		}
		offer("a", 10, 40) // another wish: somebody waits
		time.Sleep(30 * time.Second)
		offer("a", 10, 41)
		time.Sleep(5 * time.Minute)
		offer("b", 10, 41) // another object, the same status
		time.Sleep(5 * time.Second)
		offer("b", 10, 50)
		time.Sleep(5 * time.Second)
		want := []string{"a gen 9 after 0s", "a gen 9 after 2m0s", "a gen 9 after 6m0s", "a gen 9 after 21m0s", "a gen 9 after 36m0s",
			"a gen 9 after 51m0s", "a gen 10 after 1h0m0s", "a gen 10 after 1h1m0s", "b gen 10 after 1h6m0s", "b gen 10 after 1h6m0s"}
		got, _ := p.read()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestReporterKeepsTheNewestWhileAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &paper{start: time.Now(), torn: true}
		r := NewReporter(p)
		go r.Run(t.Context())
		for i := range int64(24 * 60) { // a day without an API server, a change a minute
			s := statusOf(1, 20, nil)
			s.ObservedGeneration = i
			r.Offer("a", s)
			time.Sleep(time.Minute)
		}
		if _, tries := p.read(); tries > 24*60 {
			t.Errorf("%d tries in a day, want backoff", tries)
		}
		p.mu.Lock()
		p.torn = false
		p.mu.Unlock()
		time.Sleep(8 * time.Minute)
		if lines, _ := p.read(); len(lines) != 1 || !strings.HasPrefix(lines[0], "a gen 1439 ") {
			t.Errorf("written after the return: %v, want the newest once", lines)
		}
	})
}

type beats struct {
	n    int
	fail bool
}

func (b *beats) RenewLease(context.Context, time.Duration, time.Time) error {
	b.n++
	if b.fail {
		return errors.New("away")
	}
	return nil
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fail     bool
		from, to int
	}{
		"an hour of renewals leaves room for two lost ones": {false, 16, 21},
		"an hour away backs off":                            {true, 12, 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				b := &beats{fail: tc.fail}
				Heartbeat(ctx, b)
				if b.n < tc.from || b.n > tc.to {
					t.Errorf("%d renewals in an hour, want %d to %d", b.n, tc.from, tc.to)
				}
			})
		})
	}
}

func TestHumanBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 12 << 20: "12 MiB", 3 << 29: "1.5 GiB", 5 << 50: "5.0 PiB"} {
		if got := HumanBytes(n); got != want {
			t.Errorf("HumanBytes(%d) = %q, want %q", n, got, want)
		}
	}
}

// statusOf makes a status with n images with names of a length.
func statusOf(n, length int, edit func(*v1alpha1.NodeImageStatus)) *v1alpha1.NodeImageCacheStatus {
	s := &v1alpha1.NodeImageCacheStatus{ObservedGeneration: 1}
	for i := range n {
		img := v1alpha1.NodeImageStatus{Name: fmt.Sprintf("r.io/%0*d", length-5, i), Digest: digestOf("a").String(), Phase: v1alpha1.PhasePending}
		if edit != nil {
			edit(&img)
		}
		s.Images = append(s.Images, img)
	}
	return s
}

func digestOf(c string) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(c, 64)) }

func ref(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

// specShare is the spec's share of the object, in bytes; see controller/nodes.
const specShare = 440 << 10

// TestSpecAndStatusFitTogether: the two halves of the object's budget leave it below 1 MiB.
func TestSpecAndStatusFitTogether(t *testing.T) {
	t.Parallel()
	meta, err := json.Marshal(metav1.ObjectMeta{Name: strings.Repeat("n", 253), Namespace: v1alpha1.SystemNamespace, UID: types.UID(strings.Repeat("u", 36))})
	if err != nil {
		t.Fatal(err)
	}
	if total := specShare + maxStatusBytes + 2*len(meta); total > 1<<20 {
		t.Errorf("budget adds up to %d bytes, more than 1 MiB", total)
	}
}
