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

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/links"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/window"
)

// darkSite is a runtime at a place where some registries are dark: connections to them time out.
type darkSite struct {
	*driver

	can   []runtime.Capability
	dark  map[string]bool // guarded by driver.mu
	tried map[string]int  // by registry, guarded by driver.mu
	asked int             // guarded by driver.mu
	seen  int             // looks at the runtime, guarded by driver.mu
}

const timesOut = 30 * time.Second

var errTimeout = &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("i/o timeout")}

func (s *darkSite) Info(ctx context.Context) (runtime.Info, error) {
	s.with(func() { s.seen++ })
	info, err := s.driver.Info(ctx)
	info.Capabilities = append(info.Capabilities, s.can...)
	return info, err
}

func (s *darkSite) Ensure(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	dark := false
	s.with(func() {
		s.tried[r.Name.Registry()]++
		dark = s.dark[r.Name.Registry()]
	})
	if !dark {
		return s.driver.Ensure(ctx, r, progress)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(timesOut):
		return errTimeout
	}
}

// Probe asks a registry.
func (s *darkSite) Probe(ctx context.Context, registry string) error {
	dark := false
	s.with(func() { dark, s.asked = s.dark[registry], s.asked+1 })
	if !dark {
		return nil
	}
	<-ctx.Done()
	return errTimeout
}

func (s *darkSite) set(registry string, dark bool) { s.with(func() { s.dark[registry] = dark }) }

func (s *darkSite) tries(registry string) (n int) {
	s.with(func() { n = s.tried[registry] })
	return n
}

func (s *darkSite) looks() (n int) {
	s.with(func() { n = s.seen })
	return n
}

func (s *darkSite) probes() (n int) {
	s.with(func() { n = s.asked })
	return n
}

// newDarkSite is a bench whose agent knows its links.
func newDarkSite(t *testing.T, probe time.Duration, options Options, can ...runtime.Capability) (*bench, *darkSite, *links.Watch) {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
	s := &darkSite{driver: b.driver, can: can, dark: map[string]bool{}, tried: map[string]int{}}
	b.as = func(*driver) runtime.Driver { return s }
	watch := links.New(t.Context(), links.Options{ProbeInterval: probe})
	options.Links = watch
	b.start(options)
	watch.Notify(b.agent.Look)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { watch.Run(ctx, s); close(done) }()
	stop := b.cancel
	b.cancel = func() { stop(); cancel(); <-done }
	return b, s, watch
}

func (d *desk) image(name string) (found v1alpha1.NodeImageStatus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range d.last.Images {
		if i.Name == name {
			found = i
		}
	}
	return found
}

func many(registry string, n int) (list []v1alpha1.NodeImage) {
	for i := range n {
		list = append(list, image(fmt.Sprintf("%s/app%02d:v1", registry, i), d1))
	}
	return list
}

// TestWhatMayBeHereIsLookedAt: what an image was made of may still be on the node, so that it
// is made whole with no registry.
func TestWhatMayBeHereIsLookedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s, watch := newDarkSite(t, 0, Options{})
		b.wish(2, images(many("r.io", 3)...))
		time.Sleep(time.Minute)
		before := s.tries("r.io")
		s.set("r.io", true)
		watch.GaveUp("r.io")
		for _, img := range many("r.io", 3) {
			b.driver.lose(img.Name)
		}
		time.Sleep(4 * time.Minute)
		if n := s.tries("r.io") - before; n != 3 {
			t.Errorf("%d tries at 3 images that were there, want one each", n)
		}
		b.stop()
	})
}

// TestARegistryThatIsDown for a day costs the images of another one nothing, burns no
// attempts, and its images come as soon as it is back.
func TestARegistryThatIsDown(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		probe time.Duration
		back  time.Duration // within what time the images are there
		asked [2]int        // questions a day
	}{
		"with probes":    {30 * time.Second, 3 * time.Minute, [2]int{500, 1000}},
		"without probes": {0, 7 * time.Minute, [2]int{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, s, _ := newDarkSite(t, tc.probe, Options{})
				s.set("dark.io", true)
				s.setTakes(20 * time.Second)
				b.wish(2, images(append(many("dark.io", 20), many("zbright.io", 6)...)...))
				time.Sleep(3 * time.Minute)
				for i := range 6 {
					b.driver.expect(t, fmt.Sprintf("zbright.io/app%02d:v1", i))
				}
				time.Sleep(24 * time.Hour)
				if n := s.tries("dark.io"); n > 24*60/5+5 {
					t.Errorf("%d attempts in a day", n)
				}
				if n := s.probes(); n < tc.asked[0] || n > tc.asked[1] {
					t.Errorf("%d questions in a day, want %v", n, tc.asked)
				}
				for i := range 20 {
					st := b.desk.image(fmt.Sprintf("dark.io/app%02d:v1", i))
					if st.Attempts > 1 || st.Reason != v1alpha1.ReasonNetworkError || !strings.HasPrefix(st.Message, "dark.io has not been reached since 2000-01-01T00:00:") {
						t.Errorf("status %+v", st)
					}
				}
				if n := commits(t, b.dir); n > 40 {
					t.Errorf("%d transactions in a day without a registry", n)
				}
				s.set("dark.io", false)
				time.Sleep(tc.back + 10*20*time.Second) // two at a time, 20 s each
				for i := range 20 {
					b.driver.expect(t, fmt.Sprintf("dark.io/app%02d:v1", i))
				}
				b.stop()
			})
		})
	}
}

// TestRunningAttemptsLetGo of their turns when connections show that the registry is down,
// and go on where they were in their order.
func TestRunningAttemptsLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s, watch := newDarkSite(t, time.Minute, Options{Workers: 1}, runtime.CanProgress, runtime.CanLimit)
		s.setTakes(time.Hour)
		list := many("r.io", 3)
		list[2].Priority = 5
		b.wish(2, images(list...))
		time.Sleep(time.Second)
		s.set("r.io", true)
		for range 4 {
			watch.Missed("r.io")
			time.Sleep(5 * time.Second)
		}
		if _, cancelled := b.driver.counts(); cancelled != 1 {
			t.Errorf("%d attempts ended, want the one that ran", cancelled)
		}
		if st := b.desk.image("r.io/app02:v1"); st.Phase != v1alpha1.PhasePending || st.Attempts != 0 || st.Reason != v1alpha1.ReasonNetworkError || st.Size != 100 {
			t.Errorf("status %+v, want an image that waits and keeps what it has", st)
		}
		s.set("r.io", false)
		s.setTakes(time.Second)
		watch.Reached("r.io")
		time.Sleep(10 * time.Second)
		b.desk.expect(t, 2, "r.io/app00:v1 Cached", "r.io/app01:v1 Cached", "r.io/app02:v1 Cached")
		if calls := b.driver.calls(); !slices.Equal(calls[1:], []string{"r.io/app02:v1", "r.io/app00:v1", "r.io/app01:v1"}) {
			t.Errorf("brought %v", calls)
		}
		b.stop()
	})
}

func windows(t *testing.T, built time.Time, list ...string) *window.Windows {
	t.Helper()
	w, err := window.Parse(list, built)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestPullWindows: nothing is begun outside of them, what runs pauses and goes on in the
// next, the most important first.
func TestPullWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // at midnight of 2000-01-01, UTC
		b := newBench(t, Options{Workers: 1, Windows: windows(t, time.Time{}, "0 1 * * * for 4h")})
		b.driver.setTakes(3 * time.Hour)
		list := many("r.io", 2)
		list[1].Priority = 1
		b.wish(2, images(list...))
		time.Sleep(59 * time.Minute)
		b.desk.expect(t, 2, "r.io/app00:v1 Pending OutsideWindow", "r.io/app01:v1 Pending OutsideWindow")
		if st := b.desk.image("r.io/app00:v1"); !strings.Contains(st.Message, "opens at 2000-01-01T01:00:00Z") || len(b.driver.calls()) != 0 {
			t.Errorf("%s; brought %v", st.Message, b.driver.calls())
		}
		time.Sleep(4 * time.Hour) // one minute before the window closes
		b.desk.expect(t, 2, "r.io/app00:v1 Pulling", "r.io/app01:v1 Cached")
		time.Sleep(2 * time.Minute)
		b.desk.expect(t, 2, "r.io/app00:v1 Pending OutsideWindow", "r.io/app01:v1 Cached")
		if st := b.desk.image("r.io/app00:v1"); st.Attempts != 0 || st.Size != 100 {
			t.Errorf("status %+v, want no failure and what it has", st)
		}
		time.Sleep(24 * time.Hour)
		b.desk.expect(t, 2, "r.io/app00:v1 Cached", "r.io/app01:v1 Cached")
		if calls := b.driver.calls(); !slices.Equal(calls, []string{"r.io/app01:v1", "r.io/app00:v1", "r.io/app00:v1"}) {
			t.Errorf("brought %v", calls)
		}
		b.stop()
	})
}

// asked counts how often windows are asked.
type asked struct {
	Windows

	times atomic.Int64
}

func (w *asked) At(now time.Time) window.Verdict {
	w.times.Add(1)
	return w.Windows.At(now)
}

// TestWindowsAreAskedOnce for all images: a window for every minute takes milliseconds to judge.
func TestWindowsAreAskedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &asked{Windows: windows(t, time.Time{}, "0 1 * * * for 4h")}
		b := newBench(t, Options{Windows: w})
		b.wish(2, images(many("r.io", 50)...))
		time.Sleep(time.Second)
		before := w.times.Load()
		time.Sleep(pollWithHints)
		if n := w.times.Load() - before; n > 4 {
			t.Errorf("asked %d times for one look at 50 images", n)
		}
		b.stop()
	})
}

// TestAWrongClock opens no window; when it is right they count.
func TestAWrongClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Windows: windows(t, time.Now().Add(10*time.Hour), "0 * * * * for 1h")})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(9 * time.Hour)
		if st := b.desk.image("r.io/app:v1"); st.Phase != v1alpha1.PhasePending || !strings.Contains(st.Message, "the clock of this node says 2000-01-01") {
			t.Errorf("status %+v", st)
		}
		time.Sleep(2 * time.Hour)
		b.desk.expect(t, 2, "r.io/app:v1 Cached")
		b.stop()
	})
}

func TestSettingsThatADriverCannotHonour(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		can  []runtime.Capability
		want []string
	}{
		"one that pulls by itself":  {nil, []string{"bandwidthLimit has no effect", "pullWindows throw away half layers"}},
		"one that resumes":          {[]runtime.Capability{runtime.CanResume}, []string{"bandwidthLimit has no effect"}},
		"one that can do all of it": {[]runtime.Capability{runtime.CanResume, runtime.CanLimit}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, _, _ := newDarkSite(t, 0, Options{LinkSettings: report.LinkSettings{BandwidthLimit: true, PullWindows: true}}, tc.can...)
				b.wish(2, images(image("r.io/app:v1", d1)))
				time.Sleep(time.Minute)
				got := b.desk.condition(v1alpha1.NodeConditionSettingsNotHonoured)
				if (got == "") != (len(tc.want) == 0) || strings.Count(got, "; ") != max(0, len(tc.want)-1) {
					t.Errorf("condition %q", got)
				}
				for _, w := range tc.want {
					if !strings.Contains(got, w) {
						t.Errorf("condition %q, want %q", got, w)
					}
				}
				b.stop()
			})
		})
	}
}
