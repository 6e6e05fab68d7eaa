package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/reserve"
	"edgecache.dev/edgeagent/runtime"
)

// TestTwoRegistriesAreDown: while one of them is tried, the loop does not spin for the other
// one, whose turn it is.
func TestTwoRegistriesAreDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s, _ := newDarkSite(t, 0, Options{})
		s.set("a.io", true)
		s.set("b.io", true)
		b.wish(2, images(append(many("a.io", 2), many("b.io", 2)...)...))
		time.Sleep(time.Hour)
		if n := s.tries("a.io"); n < 5 || s.tries("b.io") < 5 {
			t.Errorf("%d and %d attempts in an hour", n, s.tries("b.io"))
		}
		before := s.looks()
		time.Sleep(time.Hour)
		if n := s.looks() - before; n > 200 {
			t.Errorf("%d looks at the runtime in an hour", n)
		}
		b.stop()
	})
}

// refusing is a runtime that does not remove images.
type refusing struct {
	*disked

	hangs  bool         // what it does not do ends with the context
	weighs bool         // it tells what images weigh
	calls  atomic.Int64 // that were refused
}

func (r *refusing) refuse(ctx context.Context) error {
	r.calls.Add(1)
	if r.hangs {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return errors.New("read-only file system")
}

func (r *refusing) Remove(ctx context.Context, _ ...imageref.Reference) error { return r.refuse(ctx) }

func (r *refusing) Weigh(ctx context.Context) (map[imageref.Reference][]runtime.Part, error) {
	if !r.weighs {
		return nil, r.refuse(ctx)
	}
	return r.disked.Weigh(ctx)
}

func newRefusing(t *testing.T, r *refusing, sizes map[digest.Digest]weight) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
	r.disked = newDisked(b.driver, diskSize)
	r.sizes = sizes
	b.as = func(*driver) runtime.Driver { return r }
	b.start(Options{Disk: r.disk, Reserve: reserve.Reserve{Bytes: diskReserve}, Prober: r.disked})
	return b
}

// TestWhatCannotBeGivenUp is not asked for again and again.
func TestWhatCannotBeGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &refusing{weighs: true}
		one := weight{fetch: 600 * mib, unpack: 1000 * mib}
		b := newRefusing(t, r, map[digest.Digest]weight{d1: one, d2: one})
		low, high := ranked("r.io/low:v1", d1, 0), ranked("r.io/top:v1", d2, 2)
		b.wish(2, images(low))
		time.Sleep(10 * time.Minute)
		b.wish(3, images(low, high))
		time.Sleep(time.Hour)
		b.desk.expect(t, 3, "r.io/low:v1 Cached", "r.io/top:v1 Failed InsufficientDisk")
		if n := r.calls.Load(); n == 0 || n > 20 {
			t.Errorf("the runtime was asked %d times in an hour", n)
		}
		b.stop()
	})
}

// TestARuntimeThatDoesNotWeigh does not hold up the loop once for each image, and one that
// hangs does not make the agent look stuck.
func TestARuntimeThatDoesNotWeigh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &refusing{hangs: true}
		sizes := map[digest.Digest]weight{}
		list := images()
		for i := range 15 {
			d := digestOf("0123456789abcdef"[i])
			sizes[d] = weight{fetch: 3000 * mib, unpack: 3000 * mib}
			list.Images = append(list.Images, ranked(fmt.Sprintf("r.io/app%02d:v1", i), d, 1))
		}
		b := newRefusing(t, r, sizes)
		b.wish(2, list)
		for range 60 {
			time.Sleep(time.Minute)
			if err := b.agent.Health(); err != nil {
				t.Fatal(err)
			}
		}
		before := r.calls.Load()
		time.Sleep(pollWithHints)
		if n := r.calls.Load() - before; n > 6 {
			t.Errorf("the runtime was asked %d times within one interval", n)
		}
		b.stop()
	})
}
