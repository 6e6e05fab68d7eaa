package links

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/offline/link"
)

// card keeps history and counts writes.
type card struct {
	mu     sync.Mutex
	links  map[string][]link.Change
	writes int
	full   bool
}

func (c *card) Links() (map[string][]link.Change, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.links), nil
}

func (c *card) SaveLinks(save map[string][]link.Change, drop []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	if c.full {
		return errors.New("no space left on device")
	}
	if c.links == nil {
		c.links = map[string][]link.Change{}
	}
	maps.Copy(c.links, save)
	for _, name := range drop {
		delete(c.links, name)
	}
	return nil
}

func (c *card) state(name string) (s link.State, writes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.links[name]; len(h) > 0 {
		s = h[len(h)-1].State
	}
	return s, c.writes
}

// questions is a prober that keeps when it was asked.
type questions struct {
	mu    sync.Mutex
	at    []time.Time
	there bool
}

func (q *questions) Probe(context.Context, string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.at = append(q.at, time.Now())
	if q.there {
		return nil
	}
	return errors.New("i/o timeout")
}

func (q *questions) asked() []time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.at)
}

func run(t *testing.T, o Options, q *questions) (w *Watch, stop func()) {
	t.Helper()
	w = New(t.Context(), o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx, q); close(done) }()
	return w, func() { cancel(); <-done }
}

// TestHistoryIsStored soon, seldom, and at the end; an agent that starts knows it.
func TestHistoryIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, q := &card{}, &questions{}
		w, stop := run(t, Options{Memory: c}, q)
		w.Reached("r.io")
		time.Sleep(time.Minute)
		if s, n := c.state("r.io"); s != link.Up || n != 1 {
			t.Errorf("stored %s with %d writes", s, n)
		}
		for range 24 * 60 { // a link that is down every other minute, for a day
			w.GaveUp("r.io")
			time.Sleep(30 * time.Second)
			w.Reached("r.io")
			time.Sleep(30 * time.Second)
		}
		if s, n := c.state("r.io"); s != link.Flapping || n > 10 {
			t.Errorf("stored %s with %d writes in a day", s, n)
		}
		w.GaveUp("other.io")
		stop()
		if s, _ := c.state("other.io"); s != link.Down {
			t.Errorf("stored %q at the end", s)
		}
		if since, down := New(t.Context(), Options{Memory: c}).Down("other.io"); !down || since.IsZero() {
			t.Errorf("after a restart: down %t since %s", down, since)
		}
	})
}

func TestFullCard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &card{full: true}
		w, stop := run(t, Options{Memory: c}, &questions{})
		w.Reached("r.io")
		time.Sleep(24 * time.Hour)
		if _, n := c.state("r.io"); n > 5 {
			t.Errorf("%d writes to a full card", n)
		}
		c.full = false
		stop()
		if s, _ := c.state("r.io"); s != link.Up {
			t.Errorf("stored %q at the end", s)
		}
	})
}

func TestProbes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		interval    time.Duration
		await, down bool
		least, most int // questions in an hour
	}{
		"what is waited for and down": {30 * time.Second, true, true, 25, 50},
		"what nobody waits for":       {30 * time.Second, false, true, 0, 0},
		"what is not down":            {30 * time.Second, true, false, 0, 0},
		"nothing, on a metered link":  {0, true, true, 0, 0},
		"more seldom, as was asked":   {5 * time.Minute, true, true, 2, 8},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := &questions{}
				w, stop := run(t, Options{ProbeInterval: tc.interval}, q)
				if tc.down {
					w.GaveUp("r.io")
				}
				if tc.await {
					w.Await([]string{"r.io"})
				}
				time.Sleep(time.Hour)
				if n := len(q.asked()); n < tc.least || n > tc.most {
					t.Errorf("%d questions in an hour, want %d to %d", n, tc.least, tc.most)
				}
				stop()
			})
		})
	}
}

// TestAnAnswerEndsQuestions and tells who waits.
func TestAnAnswerEndsQuestions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, told := &questions{there: true}, make(chan struct{}, 10)
		w := New(t.Context(), Options{ProbeInterval: 30 * time.Second})
		w.Notify(func() { told <- struct{}{} })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.Run(ctx, q); close(done) }()
		w.GaveUp("r.io")
		w.Await([]string{"r.io"})
		time.Sleep(time.Hour)
		if _, down := w.Down("r.io"); down || len(q.asked()) != 1 || len(told) != 2 {
			t.Errorf("down %t after %d questions, told %d times", down, len(q.asked()), len(told))
		}
		cancel()
		<-done
	})
}

// TestTell: a link that went down is told, and that it is back, but not what flaps.
func TestTell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		w := New(t.Context(), Options{})
		w.Tell(func(peer string, up bool, _ time.Time) { told = append(told, fmt.Sprintf("%s %t", peer, up)) })
		w.Reached("r.io")
		w.GaveUp("other.io")
		for range 20 {
			w.GaveUp("r.io")
			time.Sleep(10 * time.Second)
			w.Reached("r.io")
			time.Sleep(10 * time.Second)
		}
		for range 100 {
			time.Sleep(time.Minute)
			w.Reached("r.io")
		}
		if n := len(told); n < 3 || n > 12 || told[0] != "other.io false" || told[1] != "r.io false" || told[n-1] != "r.io true" {
			t.Errorf("told %q", told)
		}
	})
}

// TestNetworkChanges has those asked at once that would be asked later, and is listened to
// only then.
func TestNetworkChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, hints, listening := &questions{}, make(chan struct{}), 0
		network := func(ctx context.Context) <-chan struct{} {
			listening++
			context.AfterFunc(ctx, func() { listening-- })
			return hints
		}
		w, stop := run(t, Options{ProbeInterval: time.Hour, Network: network}, q)
		w.GaveUp("r.io")
		synctest.Wait()
		if listening != 0 {
			t.Error("the network is listened to while nobody waits")
		}
		w.Await([]string{"r.io"})
		time.Sleep(time.Minute)
		hints <- struct{}{}
		time.Sleep(2 * hurried)
		if len(q.asked()) != 1 || listening != 1 {
			t.Errorf("%d questions, %d listen", len(q.asked()), listening)
		}
		w.Reached("r.io")
		synctest.Wait()
		if listening != 0 {
			t.Error("the network is listened to after the registry is back")
		}
		stop()
	})
}

func TestRegistriesAndSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := New(t.Context(), Options{})
		w.Reached(APIServer)
		w.GaveUp("dark.io")
		for range 60 { // a minute of 1 MB/s, and a pause that is no part of it
			w.Received("r.io", 1_000_000)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		for range 60 {
			w.Received("r.io", 1_050_000)
			time.Sleep(time.Second)
		}
		all := w.Registries()
		if len(all) != 2 || all[0].Host != "dark.io" || all[0].Reachable != "False" || all[0].State != v1alpha1.LinkState(link.Down) ||
			all[1].Reachable != "True" || all[1].State != v1alpha1.LinkState(link.Up) || all[1].Since.IsZero() {
			t.Fatalf("registries %+v", all)
		}
		if speed := all[1].BytesPerSecond; speed < 950_000 || speed > 1_150_000 || all[0].BytesPerSecond != 0 {
			t.Errorf("%d bytes per second, want about a million and the same as before", speed)
		}
	})
}

type tripper struct{ err error }

func (t tripper) RoundTrip(*http.Request) (*http.Response, error) {
	if t.err != nil {
		return nil, t.err
	}
	return &http.Response{StatusCode: http.StatusTeapot, Body: http.NoBody}, nil
}

func TestTransport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := New(t.Context(), Options{})
		send := func(ctx context.Context, err error) link.State {
			r, rerr := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.example", http.NoBody)
			if rerr != nil {
				t.Fatal(rerr)
			}
			if resp, err := w.Transport(tripper{err}).RoundTrip(r); err == nil {
				_ = resp.Body.Close()
			}
			return w.book.Peer(APIServer).State
		}
		if s := send(t.Context(), nil); s != link.Up {
			t.Errorf("after an answer: %s", s)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 {
			time.Sleep(10 * time.Second)
			send(ended, ended.Err())
		}
		if s := w.book.Peer(APIServer).State; s != link.Up {
			t.Errorf("after requests that the agent ended: %s", s)
		}
		for range 4 {
			time.Sleep(10 * time.Second)
			send(t.Context(), errors.New("connection refused"))
		}
		if s := w.book.Peer(APIServer).State; s != link.Down {
			t.Errorf("after failures: %s", s)
		}
	})
}
