package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/links"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

func (b *bench) journal() (kinds []string) {
	b.t.Helper()
	j, err := b.memory.Journal()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range j.Records {
		kinds = append(kinds, string(r.Kind))
	}
	return kinds
}

func (b *bench) expectJournal(want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.journal()); diff != "" {
		b.t.Errorf("journal (-want +got):\n%s", diff)
	}
}

// TestJournal: what happens to an image is recorded once, however often it is tried and over a restart.
func TestJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{BootID: "first", Built: time.Now().Add(-time.Hour)})
		b.driver.fail(fetch.NetworkError, 5)
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Hour)
		want := []string{"ImageFailing", "ImageRecovered"}
		b.expectJournal(want...)

		b.driver.fail(fetch.NetworkError, 1000)
		b.driver.lose("r.io/app:v1")
		time.Sleep(time.Hour)
		b.stop()
		b.start(Options{BootID: "second"})
		time.Sleep(time.Hour)
		want = append(want, "ImageLost", "ImageFailing", "NodeBooted")
		b.expectJournal(want...)

		b.driver.with(func() { b.driver.failures = nil })
		time.Sleep(time.Hour)
		want = append(want, "ImageRestored")
		b.expectJournal(want...)

		b.agent.Note(store.Record{Kind: store.LinkDown, Message: "registry r.io"})
		b.wish(3, v1alpha1.NodeImageCacheSpec{Remove: []v1alpha1.RemoveImage{{Name: "r.io/app:v1", Digest: d1.String()}}})
		time.Sleep(time.Hour)
		b.expectJournal(append(want, "LinkDown", "ImageRemoved")...)
		b.stop()
	})
}

// TestJournalWhileConnected: what the status shows is no news while somebody reads it.
func TestJournalWhileConnected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		watch := links.New(t.Context(), links.Options{})
		b := newBench(t, Options{Links: watch})
		watch.Tell(b.agent.LinkTurned)
		watch.Reached(links.APIServer)
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Hour)
		b.expectJournal()
		b.driver.lose("r.io/app:v1")
		time.Sleep(time.Hour)
		b.expectJournal("ImageLost")

		watch.GaveUp(links.APIServer)
		synctest.Wait()
		b.driver.lose("r.io/app:v1")
		time.Sleep(time.Hour)
		b.expectJournal("ImageLost", "LinkDown", "ImageLost", "ImageRestored")
		watch.Reached(links.APIServer)
		time.Sleep(time.Hour)
		b.expectJournal("ImageLost", "LinkDown", "ImageLost", "ImageRestored")
		b.stop()
	})
}

// TestWrongClock: what happens before the release was built is marked.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Built: time.Now().AddDate(1, 0, 0)})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Minute)
		j, err := b.memory.Journal()
		if err != nil || len(j.Records) != 1 || !j.Records[0].Doubtful {
			t.Errorf("journal %+v, %v, want one doubtful record", j, err)
		}
		b.stop()
	})
}

// TestNothingIsWrittenWhenNothingHappens: a day without news costs no commit, whatever is looked at and heard meanwhile.
func TestNothingIsWrittenWhenNothingHappens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{BootID: "b"})
		spec := images(image("r.io/app:v1", d1), image("r.io/db:v1", d2))
		b.wish(2, spec)
		time.Sleep(time.Minute)
		before := b.memory.Stats()
		for range 24 {
			time.Sleep(time.Hour)
			b.wish(2, *spec.DeepCopy())
			b.agent.Look()
		}
		if after := b.memory.Stats(); after != before || before.Commits == 0 {
			t.Errorf("an idle day: %+v, before it %+v", after, before)
		}
		b.stop()
	})
}

// crawling is a runtime to which images come within a day, with news all the time.
type crawling struct{ runtime.Driver }

func (s crawling) Ensure(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	const steps = 24 * 60
	for i := range int64(steps) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Minute):
			progress(runtime.Progress{Size: steps, Done: i + 1})
		}
	}
	return s.Driver.Ensure(ctx, r, progress)
}

// TestASlowPullIsNotWritten: progress is for the status, not for the disk.
func TestASlowPullIsNotWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
		b.as = func(d *driver) runtime.Driver { return crawling{d} }
		b.start(Options{})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(25 * time.Hour)
		b.desk.expect(t, 2, "r.io/app:v1 Cached")
		if s := b.memory.Stats(); s.Commits > 6 {
			t.Errorf("a pull of 24 hours: %+v, want 6 commits at most", s)
		} else {
			t.Logf("a pull of 24 hours: %d commits, %d bytes", s.Commits, s.Bytes)
		}
		b.stop()
	})
}

// moody fails each image for another reason each time, as a site does whose network comes and goes.
type moody struct {
	runtime.Driver
	turn *int
}

func (m moody) Ensure(context.Context, runtime.Request, func(runtime.Progress)) error {
	*m.turn++
	reasons := []fetch.Reason{fetch.NetworkError, fetch.RegistryError}
	return &fetch.Error{Reason: reasons[*m.turn/3%2], Err: errors.New("no")}
}

// TestTheCardIsSpared: however much goes wrong, a day has at most 2,000 commits.
func TestTheCardIsSpared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
		b.as = func(d *driver) runtime.Driver { return moody{d, new(int)} }
		b.start(Options{Workers: 1})
		var list []v1alpha1.NodeImage
		for i := range 60 {
			list = append(list, image(fmt.Sprintf("r.io/app%d:v1", i), d1))
		}
		b.wish(2, images(list...))
		time.Sleep(24 * time.Hour)
		s := b.memory.Stats()
		if s.Commits < 500 || s.Commits > 2000 {
			t.Errorf("%+v, want at most 2000 commits, and so many that something was held back", s)
		}
		t.Logf("a day with %d images that fail for one reason after the other: %d commits, %d bytes", len(list), s.Commits, s.Bytes)
		b.stop()
		failing := slices.DeleteFunc(b.journalAfter(), func(k store.Kind) bool { return k != store.ImageFailing })
		if len(failing) != len(list) {
			t.Errorf("%d records of failing images, want one each", len(failing))
		}
	})
}

func (b *bench) journalAfter() (kinds []store.Kind) {
	b.t.Helper()
	s, _, err := store.Open(b.t.Context(), b.dir, "n1", trust)
	if err != nil {
		b.t.Fatal(err)
	}
	j, err := s.Journal()
	for _, r := range j.Records {
		kinds = append(kinds, r.Kind)
	}
	if err := errors.Join(err, s.Close()); err != nil {
		b.t.Fatal(err)
	}
	return kinds
}

// TestTransitions: what an entry after another says.
func TestTransitions(t *testing.T) {
	t.Parallel()
	now := new(time.Now())
	failure := &store.Failure{Digest: "b"}
	tests := map[string]struct {
		before, after store.Entry
		want          store.Kind
	}{
		"first":                     {store.Entry{}, store.Entry{Digest: "a"}, store.ImageCached},
		"another digest":            {store.Entry{Digest: "a"}, store.Entry{Digest: "b", Previous: []string{"a"}}, store.ImageCached},
		"after failing":             {store.Entry{Digest: "a", Failure: failure}, store.Entry{Digest: "b"}, store.ImageRecovered},
		"after being lost":          {store.Entry{Digest: "a", Lost: now, Failure: failure}, store.Entry{Digest: "a"}, store.ImageRestored},
		"another one than was lost": {store.Entry{Digest: "a", Lost: now}, store.Entry{Digest: "b"}, store.ImageCached},
		"another previous one":      {store.Entry{Digest: "a"}, store.Entry{Digest: "a", Previous: []string{"b"}}, ""},
		"an answer of a registry":   {store.Entry{}, store.Entry{Resolved: &store.Resolved{Digest: "a"}}, ""},
		"removed":                   {store.Entry{Digest: "a"}, store.Entry{RemovedSince: now}, store.ImageRemoved},
		"removed, never was there":  {store.Entry{}, store.Entry{RemovedSince: now}, ""},
		"failing still":             {store.Entry{Digest: "a", Failure: failure}, store.Entry{Digest: "a", Failure: failure, Lost: now}, ""},
	}
	for name, tc := range tests {
		if got := transition(tc.before, tc.after); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestAMendedStoreHasAll: a store that was lost while the agent ran is told all that the agent knows.
func TestAMendedStoreHasAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Minute)
		blank := &lent{Memory: b.disk, entries: map[string]store.Entry{}}
		agent := New(blank, b.driver, b.desk, Options{BootID: "b"})
		agent.memory = blank
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- agent.Run(ctx) }()
		time.Sleep(time.Minute)
		blank.reopened.Store(true)
		agent.Look()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if blank.entries["r.io/app:v1"].Digest != d1.String() || blank.desired == nil || blank.boot != "b" {
			t.Errorf("stored anew: %+v", blank)
		}
		b.stop()
	})
}

// lent is a memory that is read from one store, and written to another that was made anew.
type lent struct {
	Memory
	reopened atomic.Bool
	entries  map[string]store.Entry
	desired  *store.Desired
	boot     string
}

func (l *lent) Mend() (bool, error) {
	return l.reopened.Swap(false), nil
}

func (l *lent) Write(c store.Change) error {
	for _, e := range c.Save {
		l.entries[e.Name] = e
	}
	if c.Desired != nil {
		l.desired = c.Desired
	}
	l.boot = c.Boot
	return nil
}
