package intact

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// disk is a runtime's: which images were read, and what is wrong with them.
type disk struct {
	mu        sync.Mutex
	read      []string
	discarded []string
	damaged   map[string]bool
	used      map[string]bool
	failures  int           // of the next calls
	err       error         // of these
	takes     time.Duration // one image
}

func (d *disk) Verify(ctx context.Context, dg digest.Digest, _ fetch.Limiter) (runtime.Damage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failures > 0 {
		d.failures--
		return runtime.Damage{}, d.err
	}
	select {
	case <-ctx.Done():
		return runtime.Damage{}, ctx.Err()
	case <-time.After(d.takes):
	}
	d.read = append(d.read, dg.Encoded()[:1])
	damage := runtime.Damage{Digest: dg}
	if d.damaged[dg.Encoded()[:1]] {
		damage.Snapshot, damage.What = "s", "a file is empty"
	}
	return damage, nil
}

func (d *disk) Discard(_ context.Context, damage runtime.Damage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	which := damage.Digest.Encoded()[:1]
	if d.used[which] {
		return &runtime.Error{Reason: runtime.ImageDamaged, Err: errors.New("containers use it")}
	}
	d.discarded = append(d.discarded, which)
	delete(d.damaged, which)
	return nil
}

func (d *disk) was(t *testing.T, read, discarded string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if got := strings.Join(d.read, ""); got != read {
		t.Errorf("read %q, want %q", got, read)
	}
	if got := strings.Join(d.discarded, ""); got != discarded {
		t.Errorf("discarded %q, want %q", got, discarded)
	}
}

// memory is a store in memory that counts.
type memory struct {
	v      store.Verification
	found  bool
	writes int
}

func (m *memory) Verification() (store.Verification, bool, error) { return m.v, m.found, nil }

func (m *memory) PutVerification(v store.Verification) error {
	v.Damaged = slices.Clone(v.Damaged)
	if !m.found || !cmp.Equal(m.v, v) {
		m.v, m.found, m.writes = v, true, m.writes+1
	}
	return nil
}

// images gives an inventory, the oldest first, each an hour younger than the one before.
func images(which string) runtime.Inventory {
	inv := runtime.Inventory{}
	for i, c := range which {
		inv[ref(c)] = runtime.Held{
			Digest: digest.Digest("sha256:" + strings.Repeat(string(c), 64)), Complete: true, Managed: true,
			Since: time.Date(2000, 1, 1, i, 0, 0, 0, time.UTC),
		}
	}
	return inv
}

func ref(c rune) imageref.Reference {
	r, err := imageref.Parse(fmt.Sprintf("r.io/%c:v1", c))
	if err != nil {
		panic(err)
	}
	return r
}

// boot runs a guard for a while: in a boot, with images.
func boot(t *testing.T, m *memory, d *disk, id, which string, lasts time.Duration, clean bool) *Guard {
	t.Helper()
	g, err := New(t.Context(), m, d, Options{BootID: id})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	g.Hear(images(which))
	time.Sleep(lasts)
	cancel()
	<-done
	if clean {
		g.Stopped(t.Context())
	}
	return g
}

func TestReadsAfterAnUncleanBoot(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before *store.Verification
		read   string
	}{
		"nothing is known":                    {nil, "cba"},
		"switched off by the plug":            {&store.Verification{BootID: "old"}, "cba"},
		"shut down":                           {&store.Verification{BootID: "old", Clean: true}, ""},
		"the agent was started again":         {&store.Verification{BootID: "now"}, ""},
		"the agent was stopped and started":   {&store.Verification{BootID: "now", Clean: true}, ""},
		"again, before all was read":          {&store.Verification{BootID: "old", Clean: true, Due: true, Through: &store.Verified{}}, "cba"},
		"the agent was started while reading": {&store.Verification{BootID: "now", Due: true, Through: &store.Verified{Since: time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC), Digest: "sha256:" + strings.Repeat("c", 64)}}, "ba"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, d := &memory{}, &disk{}
				if tc.before != nil {
					m.v, m.found = *tc.before, true
				}
				boot(t, m, d, "now", "abc", time.Hour, false)
				d.was(t, tc.read, "")
				if want := (store.Verification{BootID: "now"}); !cmp.Equal(want, m.v) {
					t.Errorf("stored %+v, want %+v", m.v, want)
				}
			})
		})
	}
}

// TestProgressSurvives: an agent that is killed again and again reads each image about once,
// and writes little.
func TestProgressSurvives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, d := &memory{}, &disk{takes: 50 * time.Second}
		for range 20 {
			boot(t, m, d, "now", "abcdef", 130*time.Second, false)
		}
		if m.v.Due || m.writes > 8 || len(d.read) > 12 {
			t.Errorf("%+v after %d writes, read %v", m.v, m.writes, d.read)
		}
		writes := m.writes
		boot(t, m, d, "now", "abcdef", 24*time.Hour, false)
		if m.writes != writes {
			t.Errorf("%d writes with nothing to do", m.writes-writes)
		}
	})
}

// TestDamagedIsGivenUp: at once where nobody uses it, and until then it does not count as held.
func TestDamagedIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, d := &memory{}, &disk{damaged: map[string]bool{"a": true, "b": true}, used: map[string]bool{"b": true}}
		g := boot(t, m, d, "now", "abc", time.Minute, false)
		d.was(t, "cba", "a")
		held := g.Hear(images("abc"))
		if !held[ref('a')].Complete || held[ref('b')].Complete || !held[ref('c')].Complete {
			t.Errorf("held %+v, want b not to be complete", held)
		}
		err := g.Mend(t.Context(), held[ref('b')].Digest)
		if runtime.ReasonOf(err) != runtime.ImageDamaged {
			t.Errorf("bringing what containers use: %v", err)
		}
		g = boot(t, m, d, "now", "abc", time.Minute, true)
		if g.Hear(images("abc"))[ref('b')].Complete {
			t.Error("a restart made it whole")
		}
		d.used = nil
		boot(t, m, d, "next", "abc", 10*time.Minute, false)
		d.was(t, "cba", "ab")
		if len(m.v.Damaged) > 0 {
			t.Errorf("still damaged: %+v", m.v.Damaged)
		}
	})
}

// TestDamagedAndGone: what the runtime has not any more is not damaged either.
func TestDamagedAndGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, d := &memory{}, &disk{damaged: map[string]bool{"a": true}, used: map[string]bool{"a": true}}
		boot(t, m, d, "now", "ab", time.Minute, false)
		boot(t, m, d, "now", "b", time.Minute, false)
		if len(m.v.Damaged) > 0 {
			t.Errorf("still damaged: %+v", m.v.Damaged)
		}
	})
}

// TestNotReadable: one image that cannot be read does not keep others from it.
func TestNotReadable(t *testing.T) {
	t.Parallel()
	for failures, read := range map[int]string{2: "cba", tries + 1: "ba", 100: ""} {
		synctest.Test(t, func(t *testing.T) {
			m, d := &memory{}, &disk{failures: failures, err: errors.New("no such manifest")}
			boot(t, m, d, "now", "abc", time.Hour, false)
			d.was(t, read, "")
			if m.v.Due {
				t.Error("not done after an hour")
			}
		})
	}
}

// TestTheRuntimeIsAway: it is waited for, for as long as that takes, and no image is left out.
func TestTheRuntimeIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, d := &memory{}, &disk{failures: 1000, err: fmt.Errorf("verifying: %w", runtime.ErrAway)}
		boot(t, m, d, "now", "abc", 24*time.Hour, false)
		d.was(t, "cba", "")
		if m.v.Due {
			t.Error("not done although the runtime is back")
		}
	})
}

func TestNext(t *testing.T) {
	t.Parallel()
	held := images("abcde")
	change := func(c rune, do func(*runtime.Held)) {
		h := held[ref(c)]
		do(&h)
		held[ref(c)] = h
	}
	change('e', func(h *runtime.Held) { h.Complete = false })
	change('d', func(h *runtime.Held) { h.Managed = false })
	change('c', func(h *runtime.Held) { h.Managed, h.Pinned = false, true })
	change('a', func(h *runtime.Held) { h.Since = time.Time{} })
	var order []string
	v := store.Verification{Damaged: []store.Damaged{{Digest: held[ref('b')].Digest.String()}}}
	for {
		n, ok := next(held, v)
		if !ok {
			break
		}
		order = append(order, n.Digest[7:8])
		v.Through = &n
	}
	if got := strings.Join(order, ""); got != "ca" {
		t.Errorf("read %q, want %q", got, "ca")
	}
}
