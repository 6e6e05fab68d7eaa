package keyloop

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// script answers the calls for a key one after the other, then with success.
type script struct {
	mu    sync.Mutex
	calls []time.Duration // since start
	start time.Time
	steps []func() (time.Duration, error)
}

func (s *script) sync(context.Context, string) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, time.Since(s.start))
	if len(s.steps) == 0 {
		return 0, nil
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	return step()
}

func fail() (time.Duration, error)   { return 0, errors.New("no") }
func blowUp() (time.Duration, error) { panic("boom") }
func conflict() (time.Duration, error) {
	return 0, apierrors.NewConflict(schema.GroupResource{Resource: "x"}, "y", errors.New("newer"))
}
func later() (time.Duration, error) { return time.Hour, nil }

func TestRetries(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		steps []func() (time.Duration, error)
		want  []time.Duration
	}{
		"success is final":           {nil, []time.Duration{0}},
		"an error backs off":         {[]func() (time.Duration, error){fail, fail}, []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond}},
		"a panic counts as an error": {[]func() (time.Duration, error){blowUp}, []time.Duration{0, 500 * time.Millisecond}},
		"a conflict comes back soon": {[]func() (time.Duration, error){conflict, conflict}, []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond}},
		"again is asked for":         {[]func() (time.Duration, error){later}, []time.Duration{0, time.Hour}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{start: time.Now(), steps: tc.steps}
				l := New("test", s.sync)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { l.Run(ctx, 2) })
				l.Add("k")
				time.Sleep(2 * time.Hour)
				cancel()
				wg.Wait()
				if len(s.calls) != len(tc.want) {
					t.Fatalf("calls at %v, want %v", s.calls, tc.want)
				}
				for i, at := range s.calls {
					if at != tc.want[i] {
						t.Errorf("call %d at %v, want %v", i, at, tc.want[i])
					}
				}
			})
		})
	}
}

func TestOneWorkerPerKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		busy, calls := 0, 0
		l := New("test", func(context.Context, string) (time.Duration, error) {
			mu.Lock()
			busy++
			calls++
			if busy > 1 {
				t.Error("two workers on one key")
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			busy--
			mu.Unlock()
			return 0, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.Run(ctx, 4) })
		l.Add("k")
		time.Sleep(500 * time.Millisecond)
		for range 3 {
			l.Add("k")
		}
		time.Sleep(10 * time.Second)
		cancel()
		wg.Wait()
		if calls != 2 {
			t.Errorf("%d calls, want 2: the adds during work are one", calls)
		}
	})
}
