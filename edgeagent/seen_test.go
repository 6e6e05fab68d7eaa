package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/runtime"
)

func removal(name string, d digest.Digest) v1alpha1.RemoveImage {
	return v1alpha1.RemoveImage{Name: name, Digest: d.String(), Since: metav1.NewTime(time.Now())}
}

func removing(name string, d digest.Digest) v1alpha1.NodeImageCacheSpec {
	return v1alpha1.NodeImageCacheSpec{Remove: []v1alpha1.RemoveImage{removal(name, d)}}
}

// TestWhatWasNotSeenIsNotReported: while the runtime does not answer a new generation is
// not reported as observed. The controller would take its removals for done.
func TestWhatWasNotSeenIsNotReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Second)
		b.driver.setAway(true)
		b.wish(3, removing("r.io/app:v1", d1))
		time.Sleep(time.Minute)
		b.desk.expect(t, 2, "r.io/app:v1 Cached")
		if trouble := b.desk.condition(v1alpha1.NodeConditionDegraded); !strings.Contains(trouble, "away") {
			t.Errorf("Degraded says %q", trouble)
		}
		b.driver.setAway(false)
		time.Sleep(time.Minute)
		b.desk.expect(t, 3)
		if held := b.driver.holds(); len(held) != 0 {
			t.Errorf("the runtime holds %v", held)
		}
		b.stop()
	})
}

// TestBootBeforeTheRuntime: until the runtime answers what was said of the images stands.
func TestBootBeforeTheRuntime(t *testing.T) {
	t.Parallel()
	said := v1alpha1.NodeImageCacheStatus{
		ObservedGeneration: 2,
		Images:             []v1alpha1.NodeImageStatus{{Name: "r.io/app:v1", Digest: d1.String(), Phase: v1alpha1.PhaseCached}},
		Conditions:         []metav1.Condition{{Type: v1alpha1.NodeConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllCached}},
	}
	tests := map[string]struct {
		said       v1alpha1.NodeImageCacheStatus
		generation int64
		images     []string
		ready      metav1.ConditionStatus
	}{
		"after a reboot": {said, 2, []string{"r.io/app:v1 Cached"}, metav1.ConditionTrue},
		"a new object":   {v1alpha1.NodeImageCacheStatus{}, 0, nil, metav1.ConditionUnknown},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
				b.driver.setAway(true)
				b.start(Options{})
				b.agent.Hear(&v1alpha1.NodeImageCache{
					ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: 3},
					Spec:       v1alpha1.NodeImageCacheSpec{NodeUID: "n", Images: []v1alpha1.NodeImage{image("r.io/app:v1", d1)}},
					Status:     tc.said,
				})
				time.Sleep(time.Minute)
				b.desk.expect(t, tc.generation, tc.images...)
				if c := meta.FindStatusCondition(b.desk.last.Conditions, v1alpha1.NodeConditionReady); c == nil || c.Status != tc.ready {
					t.Errorf("Ready = %+v, want %s", c, tc.ready)
				}
				if trouble := b.desk.condition(v1alpha1.NodeConditionDegraded); !strings.Contains(trouble, "away") {
					t.Errorf("Degraded says %q", trouble)
				}
				b.driver.setAway(false)
				time.Sleep(time.Minute)
				b.desk.expect(t, 3, "r.io/app:v1 Cached")
				b.stop()
			})
		})
	}
}

// TestRemovalOutlastsTheAttempt: an attempt that names the image after it was told to stop
// leaves nothing behind, and the removal is not reported as done before.
func TestRemovalOutlastsTheAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.setTakes(time.Hour)
		b.driver.with(func() { b.driver.stubborn = true })
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Minute)
		b.wish(3, removing("r.io/app:v1", d1))
		time.Sleep(10 * time.Second)
		b.desk.expect(t, 3, "r.io/app:v1 Removing")
		time.Sleep(time.Minute)
		b.desk.expect(t, 3)
		if held := b.driver.holds(); len(held) != 0 {
			t.Errorf("the runtime holds %v", held)
		}
		b.stop()
	})
}

// TestRemovalGivesUpTheHalf: the driver is asked to remove what a failed attempt left.
func TestRemovalGivesUpTheHalf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.fail(fetch.InsufficientDisk, 100)
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Minute)
		b.wish(3, removing("r.io/app:v1", d1))
		time.Sleep(time.Hour)
		b.desk.expect(t, 3)
		if want := []string{"r.io/app@" + d1.String()}; !slices.Equal(b.driver.removed, want) {
			t.Errorf("asked to remove %v, want %v once", b.driver.removed, want)
		}
		b.stop()
	})
}

// TestRemovesWithoutTheWholeWish: an image that never gets a digest keeps the wish from
// being known, and not what the controller says to remove from being removed; only images
// in use may.
func TestRemovesWithoutTheWholeWish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Poll: time.Minute})
		hear := func(generation int64, spec v1alpha1.NodeImageCacheSpec) {
			b.agent.Hear(&v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: generation}, Spec: spec})
			time.Sleep(5 * time.Minute)
		}
		hear(2, images(image("r.io/app:v1", d1), image("r.io/db:v1", d2)))
		b.driver.with(func() { b.driver.blind = true })
		spec := removing("r.io/app:v1", d1)
		hear(3, spec)
		b.desk.expect(t, 3, "r.io/app:v1 Removing", "r.io/db:v1 Cached")
		b.driver.with(func() { b.driver.blind = false })
		hear(4, spec)
		b.desk.expect(t, 4, "r.io/db:v1 Cached") // held: only the wish can let go of it
		if held := b.driver.holds(); len(held) != 2 {
			t.Errorf("the runtime holds %v, want db alone", held)
		}
		b.stop()
	})
}

// TestAHangingRuntimeIsSaid: a call that runs into its timeout is trouble.
func TestAHangingRuntimeIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Second)
		b.driver.with(func() { b.driver.hangs = true })
		b.agent.Look()
		time.Sleep(3 * time.Minute)
		if trouble := b.desk.condition(v1alpha1.NodeConditionDegraded); !strings.Contains(trouble, "deadline exceeded") {
			t.Errorf("Degraded says %q", trouble)
		}
		b.stop()
	})
}

// slow is a driver that cannot list containers in the time that it is given.
type slow struct{ *driver }

// InUse waits for the end of its time.
func (s slow) InUse(ctx context.Context) (map[string]struct{}, error) {
	<-ctx.Done()
	return nil, errors.New("containers not listed in time")
}

// TestTroubleAtATimeoutIsSaid: the end of a call is not the end of the agent.
func TestTroubleAtATimeoutIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}, as: func(d *driver) runtime.Driver { return slow{d} }}
		b.start(Options{})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(5 * time.Minute)
		if trouble := b.desk.condition(v1alpha1.NodeConditionDegraded); !strings.Contains(trouble, "not listed in time") {
			t.Errorf("Degraded says %q", trouble)
		}
		b.stop()
	})
}

// counter counts statuses that are written.
type counter struct{ n atomic.Int32 }

// WriteStatus counts.
func (c *counter) WriteStatus(context.Context, types.UID, *v1alpha1.NodeImageCacheStatus) error {
	c.n.Add(1)
	return nil
}

// TestFailingImagesWriteLittle: however many images fail, and whether or not bytes come
// before they do, a node writes its status once a minute at most.
func TestFailingImagesWriteLittle(t *testing.T) {
	t.Parallel()
	for name, moves := range map[string]bool{"no byte comes": false, "bytes come each time": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const many = 40
				writes := &counter{}
				reporter := report.NewReporter(writes)
				go reporter.Run(t.Context())
				b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), to: reporter, as: func(d *driver) runtime.Driver { return failing{d, moves} }}
				b.start(Options{})
				var list []v1alpha1.NodeImage
				for i := range many {
					list = append(list, image(fmt.Sprintf("r.io/app%d:v1", i), d1))
				}
				b.wish(2, images(list...))
				time.Sleep(30 * time.Minute) // until each was tried
				first := writes.n.Load()
				time.Sleep(time.Hour)
				if n := writes.n.Load() - first; n > 61 {
					t.Errorf("%d writes in an hour of %d failing images", n, many)
				}
				if first > 30+2*many {
					t.Errorf("%d writes until each image was tried", first)
				}
				t.Logf("%d writes at first, %d in the hour after", first, writes.n.Load()-first)
				b.stop()
			})
		})
	}
}

// failing is a driver whose attempts fail, after bytes came or before.
type failing struct {
	*driver
	moves bool
}

// Ensure fails, each time in other words.
func (f failing) Ensure(_ context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	progress(runtime.Progress{Size: 1000, Done: 1})
	time.Sleep(time.Second)
	if f.moves {
		progress(runtime.Progress{Size: 1000, Done: 2})
		time.Sleep(10 * time.Second)
	}
	return &fetch.Error{Reason: fetch.NetworkError, Err: fmt.Errorf("%s cut at %s", r.Name, time.Now())}
}
