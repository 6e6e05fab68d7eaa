package edgeagent

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/runtime"
)

// spoilt is a disk with one damaged image.
type spoilt struct {
	mu     sync.Mutex
	digest digest.Digest // "" for none
	used   bool
	mended int
}

func (s *spoilt) Hear(inv runtime.Inventory) runtime.Inventory {
	s.mu.Lock()
	defer s.mu.Unlock()
	inv = maps.Clone(inv)
	for name, h := range inv {
		h.Complete = h.Complete && h.Digest != s.digest
		inv[name] = h
	}
	return inv
}

func (s *spoilt) Mend(_ context.Context, d digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d == s.digest && s.used {
		return &runtime.Error{Reason: runtime.ImageDamaged, Err: errors.New("containers use it")}
	}
	if d == s.digest {
		s.digest, s.mended = "", s.mended+1
	}
	return nil
}

func (s *spoilt) spoil(d digest.Digest, used bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.digest, s.used = d, used
}

// TestDamagedIsBroughtAnew: an image that turns out damaged is not held any more, and is
// brought when what is damaged could be given up.
func TestDamagedIsBroughtAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &spoilt{}
		b := newBench(t, Options{Intact: s})
		b.wish(2, images(image("r.io/app:v1", d1), image("r.io/db:v1", d2)))
		time.Sleep(10 * time.Second)
		b.desk.expect(t, 2, "r.io/app:v1 Cached", "r.io/db:v1 Cached")
		s.spoil(d1, true)
		b.agent.Look()
		time.Sleep(time.Second)
		b.desk.expect(t, 2, "r.io/app:v1 Failed ImageDamaged", "r.io/db:v1 Cached")
		s.spoil(d1, false)
		time.Sleep(time.Minute)
		b.desk.expect(t, 2, "r.io/app:v1 Cached", "r.io/db:v1 Cached")
		b.stop()
		if s.mended != 1 || len(b.driver.calls()) != 3 {
			t.Errorf("mended %d times, brought %v", s.mended, b.driver.calls())
		}
	})
}
