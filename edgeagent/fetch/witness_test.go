package fetch_test

import (
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/internal/dialguard"
)

// ear hears how connections fare, by registry.
type ear struct {
	mu              sync.Mutex
	reached, missed map[string]int
	bytes           map[string]int64
}

func newEar() *ear {
	return &ear{reached: map[string]int{}, missed: map[string]int{}, bytes: map[string]int64{}}
}

func (e *ear) Reached(registry string) { e.add(e.reached, registry) }
func (e *ear) Missed(registry string)  { e.add(e.missed, registry) }

func (e *ear) add(to map[string]int, registry string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	to[registry]++
}

func (e *ear) Received(registry string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bytes[registry] += int64(n)
}

func (e *ear) heard(registry string) (reached, missed int, bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reached[registry], e.missed[registry], e.bytes[registry]
}

func TestWitness(t *testing.T) {
	t.Parallel()
	const size = 200_000
	tests := map[string]struct {
		faults          fetchtest.Faults
		options         fetch.Options
		guard           bool
		reached, missed bool
		whole           bool // all bytes are heard of
	}{
		"all is well":                                           {reached: true, whole: true},
		"a connection that breaks":                              {faults: fetchtest.Faults{CutAfter: 100_000, Cuts: 1}, reached: true, missed: true, whole: true},
		"one that goes silent":                                  {faults: fetchtest.Faults{CutAfter: 100_000, Cuts: 1, Stall: true}, options: fetch.Options{Stall: 200 * time.Millisecond}, reached: true, missed: true, whole: true},
		"an answer that refuses is one":                         {faults: fetchtest.Faults{Status: http.StatusUnauthorized}, reached: true},
		"so is one that is overloaded":                          {faults: fetchtest.Faults{Status: http.StatusServiceUnavailable}, options: fetch.Options{Attempts: 1}, reached: true},
		"what is refused on principle says nothing of the link": {faults: challenge("http://169.254.169.254/token"), guard: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, e := newFixture(t), newEar()
			f.opts.Witness = e
			if tc.guard {
				f.opts.DialContext = dialguard.New(dialguard.Options{}).DialContext
			}
			d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, size)))
			f.reg.Set(tc.faults)
			_, err := f.puller(tc.options).Image(t.Context(), f.want(t, d), nil)
			reached, missed, bytes := e.heard(f.reg.Host)
			if reached > 0 != tc.reached || missed > 0 != tc.missed || (bytes >= size) != tc.whole || (err == nil) != tc.whole {
				t.Errorf("%v: reached %d, missed %d, %d bytes", err, reached, missed, bytes)
			}
		})
	}
}

// TestProbe takes the way of pulls: mirrors count, as does any answer.
func TestProbe(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.opts.DialContext = dialguard.New(dialguard.Options{}).DialContext
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound) // not followed
		return true
	}})
	ask := func(registry string) error { return fetch.NewRegistry(f.opts).Probe(t.Context(), registry) }
	if err := ask(f.reg.Host); err != nil {
		t.Errorf("a registry that answers: %v", err)
	}
	if r := f.reg.Requests(); len(r) != 1 || r[0].URL.Path != "/v2/" || r[0].Header.Get("Authorization") != "" {
		t.Errorf("asked %+v", r)
	}
	_ = reason(t, ask(nobody), fetch.NetworkError)
	f.behind(t, nobody, f.reg)
	if err := ask(nobody); err != nil {
		t.Errorf("a registry whose mirror answers: %v", err)
	}
	_ = reason(t, ask("not a registry"), fetch.RegistryError)
}
