package edgeagent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/local"
)

func phases(s local.Status) map[string]v1alpha1.ImagePhase {
	found := map[string]v1alpha1.ImagePhase{}
	for _, img := range s.Images {
		found[img.Name] = img.Phase
	}
	return found
}

// TestStatusBeforeTheRuntimeAnswers: an agent that comes up before its runtime, and with no
// API server, tells what it remembers, and marks it.
func TestStatusBeforeTheRuntimeAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.fail(fetch.Unauthorized, 100)
		b.wish(3, images(image("r.io/bad:v1", d2)))
		time.Sleep(time.Second)
		b.driver.with(func() { b.driver.failures = nil })
		b.wish(4, images(image("r.io/app:v1", d1), image("r.io/bad:v1", d2)))
		time.Sleep(10 * time.Second)
		if s := b.agent.Status(); s.Source != local.FromRuntime || s.Summary.Cached != 1 || s.Summary.Failed != 1 || s.ObservedGeneration != 4 {
			t.Errorf("status: %+v", s)
		}
		b.stop()
		b.driver.setAway(true)
		b.start(Options{Version: "v1", BootID: "boot"})
		time.Sleep(time.Minute)
		s := b.agent.Status()
		if c := meta.FindStatusCondition(s.Conditions, v1alpha1.NodeConditionReady); c == nil || c.Status == metav1.ConditionTrue {
			t.Errorf("as remembered: Ready = %+v", c)
		}
		if s.Source != local.FromMemory || s.Runtime.Error == "" || s.AgentVersion != "v1" || s.BootID != "boot" || s.Whole() {
			t.Errorf("source %s, runtime %+v, version %s, boot %s", s.Source, s.Runtime, s.AgentVersion, s.BootID)
		}
		if got := phases(s); got["r.io/app:v1"] != v1alpha1.PhaseCached || got["r.io/bad:v1"] != v1alpha1.PhaseFailed || len(got) != 2 {
			t.Errorf("images as remembered: %v", got)
		}
		b.driver.setAway(false)
		time.Sleep(time.Hour)
		if s := b.agent.Status(); !s.Whole() || s.Runtime.Error != "" || s.Summary.Wished != 2 {
			t.Errorf("status when the runtime answers: %+v", s)
		}
		b.stop()
	})
}

// TestReady: nobody says that all is there while it is not known what that is, or whether it
// is there.
func TestReady(t *testing.T) {
	t.Parallel()
	object := func(known bool, all ...v1alpha1.NodeImage) *v1alpha1.NodeImageCache {
		o := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: 1}, Spec: v1alpha1.NodeImageCacheSpec{Images: all}}
		if known {
			o.Spec.NodeUID = "n"
		}
		return o
	}
	for name, tc := range map[string]struct {
		object *v1alpha1.NodeImageCache
		away   bool
		reason string // of Ready, which is True with AllCached and Unknown with others
		ready  error  // what /readyz says
	}{
		"no wish, no runtime":         {nil, true, v1alpha1.ReasonWishUnknown, errNotLooked},
		"no wish":                     {nil, false, v1alpha1.ReasonWishUnknown, errNoWish},
		"an object, nothing in it":    {object(false), false, v1alpha1.ReasonWishUnknown, errNoWish},
		"a wish of nothing":           {object(true), false, v1alpha1.ReasonAllCached, nil},
		"a part of a wish":            {object(false, image("r.io/app:v1", d1)), false, v1alpha1.ReasonWishUnknown, nil},
		"a wish":                      {object(true, image("r.io/app:v1", d1)), false, v1alpha1.ReasonAllCached, nil},
		"a wish of nothing, no look":  {object(true), true, v1alpha1.ReasonRuntimeError, errNotLooked},
		"an object, no look, no wish": {object(false), true, v1alpha1.ReasonWishUnknown, errNotLooked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
				b.driver.setAway(tc.away)
				b.start(Options{})
				if tc.object != nil {
					b.agent.Hear(tc.object)
				}
				time.Sleep(time.Minute)
				status := metav1.ConditionUnknown
				if tc.reason == v1alpha1.ReasonAllCached {
					status = metav1.ConditionTrue
				}
				c := meta.FindStatusCondition(b.agent.Status().Conditions, v1alpha1.NodeConditionReady)
				if c == nil || c.Status != status || c.Reason != tc.reason {
					t.Errorf("Ready = %+v, want %s %s", c, status, tc.reason)
				}
				if got := b.agent.Ready(); !errors.Is(got, tc.ready) {
					t.Errorf("ready: %v, want %v", got, tc.ready)
				}
				b.stop()
			})
		})
	}
}

// TestStatusTellsProgress: rate and time left, by a driver that reports bytes.
func TestStatusTellsProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Workers: 1})
		b.driver.setTakes(time.Minute)
		b.driver.with(func() { b.driver.comes = 10 })
		b.wish(1, images(image("r.io/app:v1", d1), image("r.io/later:v1", d2)))
		time.Sleep(20*time.Second + time.Millisecond)
		s := b.agent.Status()
		app, later := s.Images[0], s.Images[1]
		if app.Phase != v1alpha1.PhasePulling || app.BytesPulled != 200 || app.BytesPerSecond != 10 || app.SecondsLeft == nil || *app.SecondsLeft != 40 {
			t.Errorf("after 20 s of 60 at 10 bytes a second: %+v", app)
		}
		if later.Phase != v1alpha1.PhasePending || later.Message != "waits for its turn" {
			t.Errorf("the second image: %+v", later)
		}
		if s.Summary.BytesPerSecond != 10 || s.Counters.BytesFetched != 200 {
			t.Errorf("summary %+v, counters %+v", s.Summary, s.Counters)
		}
		time.Sleep(2 * time.Minute)
		if s := b.agent.Status(); !s.Whole() || s.Counters.BytesFetched != 1200 || s.Counters.Attempts[local.Succeeded] != 2 {
			t.Errorf("when all is there: %+v", s)
		}
		b.stop()
	})
}

// TestStatusTellsTheNextTry counts attempts by reason.
func TestStatusTellsTheNextTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.fail(fetch.NotFound, 100)
		b.wish(1, images(image("r.io/app:v1", d1)))
		time.Sleep(30 * time.Second)
		s := b.agent.Status()
		app := s.Images[0]
		if app.Phase != v1alpha1.PhaseFailed || app.RetryInSeconds == nil || *app.RetryInSeconds < 29 || *app.RetryInSeconds > 46 {
			t.Errorf("half a minute after the first of the attempts that are a minute apart: %+v", app)
		}
		if s.Counters.Attempts[string(fetch.NotFound)] != 1 || s.Counters.Passes == 0 {
			t.Errorf("counters: %+v", s.Counters)
		}
		b.stop()
	})
}
