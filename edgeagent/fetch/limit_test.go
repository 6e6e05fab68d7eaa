package fetch_test

import (
	"sync"
	"testing"
	"time"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

// TestLimiterBoundsBandwidth of all pulls together, and takes none of the waiting for a
// silent connection.
func TestLimiterBoundsBandwidth(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	limited := fetch.Options{Limiter: fetch.NewLimiter(64 << 10), Stall: 100 * time.Millisecond}
	begun := time.Now()
	var both sync.WaitGroup
	for i := range int64(2) {
		d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, i, 64<<10)))
		both.Go(func() {
			if _, err := f.puller(limited).Image(t.Context(), f.want(t, d), nil); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if took := time.Since(begun); took < 1800*time.Millisecond {
		t.Errorf("2 × 64 KiB at 64 KiB/s took %s", took)
	}
}

// TestLowLimitIsATrickle: bytes come several times a second, not once in two.
func TestLowLimitIsATrickle(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int64]int{16 << 10: 4 << 10, 64 << 10: 8 << 10, 1 << 20: 32 << 10, 1 << 40: 32 << 10} {
		if got := fetch.NewLimiter(limit).Burst(); got != want {
			t.Errorf("at %d bytes per second %d are read at once, want %d", limit, got, want)
		}
	}
	f := newFixture(t)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 32<<10)))
	var at []time.Time
	limited := fetch.Options{Limiter: fetch.NewLimiter(fetch.MinBandwidth), Stall: 100 * time.Millisecond}
	if _, err := f.puller(limited).Image(t.Context(), f.want(t, d), func(fetch.Progress) { at = append(at, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	if took := at[len(at)-1].Sub(at[0]); len(at) < 6 || took < time.Second {
		t.Errorf("%d reports within %s of 32 KiB at 16 KiB/s, want one for each quarter of a second or so", len(at), took)
	}
}
