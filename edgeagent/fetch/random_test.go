package fetch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

// TestRandomTrouble pulls through whatever a bad link and a bad registry do, one thing
// after the other, with agents that come and go. Whatever happens: no byte of the store is
// asked for again, and what is complete in the end is right.
func TestRandomTrouble(t *testing.T) {
	t.Parallel()
	for range 4 {
		seed := rand.Uint64()
		t.Run("", func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			randomTrouble(t, rand.New(rand.NewPCG(seed, seed)))
		})
	}
}

func randomTrouble(t *testing.T, rng *rand.Rand) {
	t.Helper()
	f := newFixture(t)
	large, small := fetchtest.Layer(t, rng.Int64(), 1_500_000), fetchtest.Layer(t, rng.Int64(), 40_000)
	img := fetchtest.Image(t, node, large, small)
	d := f.reg.Push(t, "app:v1", fetchtest.Index(t, fetchtest.Image(t, "linux/amd64"), img))
	for attempt := range 200 {
		f.reg.Set(trouble(rng))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(50+rng.IntN(400))*time.Millisecond)
		_, err := f.puller(fetch.Options{Parallel: 1 + rng.IntN(4), Stall: 100 * time.Millisecond, Attempts: 1 + rng.IntN(2)}).
			Image(ctx, f.want(t, d), nil)
		cancel()
		if err == nil {
			t.Logf("complete after %d attempts, %d bytes sent for %d", attempt+1, f.reg.Sent(), fetchtest.Size(t, img))
			break
		}
		known(t, err)
		if rng.IntN(3) == 0 {
			f.reopen(t)
		}
	}
	f.reg.Set(fetchtest.Faults{})
	if _, err := f.pull(t, d); err != nil {
		t.Fatal(err)
	}
	f.has(t, append(fetchtest.Blobs(t, img), d, fetchtest.Digest(t, img))...)
	for _, l := range fetchtest.Blobs(t, img) {
		advances(t, f.reg.Transfers(l))
	}
}

// trouble is one state of the world. Lies are left out: they are thrown away and asked for
// again, as they must be.
func trouble(rng *rand.Rand) fetchtest.Faults {
	switch rng.IntN(7) {
	case 0:
		return fetchtest.Faults{CutAfter: 1 + rng.Int64N(400_000)}
	case 1:
		return fetchtest.Faults{CutAfter: 1 + rng.Int64N(400_000), Stall: true}
	case 2:
		return fetchtest.Faults{Status: []int{429, 500, 502, 503}[rng.IntN(4)], Only: []string{"/", "/blobs/", "/manifests/"}[rng.IntN(3)]}
	case 3:
		return fetchtest.Faults{NoRange: true, CutAfter: 1 + rng.Int64N(800_000)}
	case 4:
		return fetchtest.Faults{Rate: 500_000 + rng.Int64N(5_000_000)}
	case 5:
		return fetchtest.Faults{Before: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }}
	}
	return fetchtest.Faults{CutAfter: 700_000, Cuts: 1}
}

// known wants an error that callers can act on.
func known(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*fetch.Error](err); !ok && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want one with a reason or the context's", err)
	}
	if !fetch.Transient(err) {
		t.Errorf("%v is permanent, and the registry only has trouble", err)
	}
}

// advances wants each transfer of a blob to begin where the store stood: never before the
// end of what an earlier one is known to have brought.
func advances(t *testing.T, transfers []fetchtest.Transfer) {
	t.Helper()
	for i := 1; i < len(transfers); i++ {
		if transfers[i].First < transfers[i-1].First {
			t.Errorf("transfer %d begins at %d, the one before at %d", i, transfers[i].First, transfers[i-1].First)
		}
	}
}

// TestManyPullsOfManyImages shares layers between images that come at the same time.
func TestManyPullsOfManyImages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.reg.Set(fetchtest.Faults{Rate: 2_000_000})
	shared := []int64{1, 2, 3, 4}
	done := make(chan error)
	const images = 6
	for i := range images {
		var d digest.Digest
		if i%2 == 0 {
			d = f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, shared[i%4], 50_000), fetchtest.Layer(t, shared[(i+1)%4], 50_000), fetchtest.Layer(t, int64(100+i), 1000)))
		} else {
			d = f.reg.Push(t, "app:v1", fetchtest.Index(t, fetchtest.Image(t, node, fetchtest.Layer(t, shared[i%4], 50_000), fetchtest.Layer(t, shared[(i+2)%4], 50_000))))
		}
		go func() {
			_, err := f.puller(fetch.Options{}).Image(t.Context(), f.want(t, d), nil)
			done <- err
		}()
	}
	for range images {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, seed := range shared {
		l := fetchtest.Digest(t, fetchtest.Layer(t, seed, 50_000))
		if n := len(f.reg.Transfers(l)); n != 1 {
			t.Errorf("layer %d was asked for %d times, want once", seed, n)
		}
	}
}
