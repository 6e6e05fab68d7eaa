package fetch

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/internal/pause"
)

func TestDelay(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 8 * time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 60: 30 * time.Second,
	} {
		if got := delay(failures, 1); got != want {
			t.Errorf("delay(%d, 1) = %s, want %s", failures, got, want)
		}
		if got := delay(failures, 0); got != want/2 {
			t.Errorf("delay(%d, 0) = %s, want %s", failures, got, want/2)
		}
	}
}

var errFailed = errors.New("the attempt failed")

func TestBackoffGivesUpAfterAttemptsWithoutProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := backoff{limit: 5}, time.Now()
		for range 100 {
			if err := b.wait(t.Context(), true, errFailed); err != nil {
				t.Fatalf("gave up although there was progress: %v", err)
			}
		}
		if d := time.Since(begun); d > 100*time.Second {
			t.Errorf("100 attempts with progress took %s, want at most 1 s each", d)
		}
		attempts := 1
		var err error
		for ; err == nil; attempts++ {
			err = b.wait(t.Context(), false, errFailed)
		}
		if attempts != 6 || !errors.Is(err, errFailed) {
			t.Errorf("%d attempts without progress, %v, want 5 after the first", attempts-1, err)
		}
	})
}

func TestBackoffWithOneAttempt(t *testing.T) {
	t.Parallel()
	b := backoff{limit: 1}
	if err := b.wait(t.Context(), true, errFailed); err != nil {
		t.Errorf("after an attempt that brought bytes: %v", err)
	}
	if err := b.wait(t.Context(), false, errFailed); !errors.Is(err, errFailed) {
		t.Errorf("after one that brought none: %v, want %v", err, errFailed)
	}
}

func TestBackoffEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		begun := time.Now()
		if err := (&backoff{limit: 5}).wait(ctx, false, errFailed); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want the context's", err)
		}
		if d := time.Since(begun); d != time.Millisecond {
			t.Errorf("waited %s after the end", d)
		}
	})
}

func TestProgressIsBoundedAndMonotone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []Progress
		tr := newTracker(func(p Progress) { got = append(got, p) })
		a, b := digest.FromString("a"), digest.FromString("b")
		tr.at(a, 10) // before the total is known: no report
		tr.begin(100)
		for i := range 82 { // 0.9 s of small writes
			tr.at(b, int64(i)/2)
			time.Sleep(11 * time.Millisecond)
		}
		tr.at(b, 0) // wrong bytes, thrown away
		tr.at(b, 80)
		time.Sleep(time.Hour) // what was kept back is shown
		tr.at(b, 85)
		tr.at(b, 90)
		tr.end()
		tr.at(b, 1)
		time.Sleep(time.Hour) // nothing after the end
		want := []Progress{{100, 10}, {100, 21}, {100, 32}, {100, 44}, {100, 90}, {100, 95}, {100, 100}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

func TestNobodyNeedsToListen(t *testing.T) {
	t.Parallel()
	tr := newTracker(nil)
	tr.begin(1)
	tr.at(digest.FromString("a"), 1)
	tr.end()
}

// slowReader blocks until its context ends, or gives a byte after a while.
type slowReader struct {
	ctx  context.Context
	wait time.Duration
}

func (r slowReader) Read(p []byte) (int, error) {
	if !pause.For(r.ctx, r.wait) {
		return 0, r.ctx.Err()
	}
	return copy(p, "x"), nil
}

func TestWatchCutsSilentConnectionsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, w := newWatch(t.Context(), time.Minute)
		defer w.end()
		for range 5 {
			if _, err := w.read(slowReader{ctx, 59 * time.Second}, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // a limiter
		}
		begun := time.Now()
		_, err := w.read(slowReader{ctx, time.Hour}, make([]byte, 1))
		if !errors.Is(err, context.Canceled) || !w.stalled() {
			t.Errorf("error = %v, stalled %v", err, w.stalled())
		}
		if d := time.Since(begun); d != time.Minute {
			t.Errorf("cut after %s, want 1 m", d)
		}
	})
}

func TestWatchIsNotTheCallersContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	watched, w := newWatch(ctx, time.Minute)
	defer w.end()
	cancel()
	if _, err := w.read(slowReader{watched, time.Hour}, make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || w.stalled() {
		t.Errorf("error = %v, stalled %v, want a plain cancellation", err, w.stalled())
	}
}
