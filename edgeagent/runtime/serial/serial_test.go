package serial_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"edgecache.dev/edgeagent/runtime/serial"
)

func TestOneAtATimePerKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g serial.Group[string]
		var inside [2]atomic.Int32
		var wg sync.WaitGroup
		begun := time.Now()
		for i := range 10 {
			wg.Go(func() {
				leave, err := g.Enter(t.Context(), []string{"a", "b"}[i%2])
				if err != nil {
					t.Error(err)
					return
				}
				defer leave()
				if inside[i%2].Add(1) != 1 {
					t.Error("two inside at once")
				}
				time.Sleep(time.Second)
				inside[i%2].Add(-1)
			})
		}
		wg.Wait()
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("5 times 1 s for each of two keys took %s, want 5s", took)
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	var g serial.Group[int]
	leave, err := g.Enter(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := g.Enter(ctx, 1); !errors.Is(err, stop) {
		t.Errorf("error = %v, want %v", err, stop)
	}
	leave()
	leave() // again does no harm
	again, err := g.Enter(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
