package edgeagent

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/reserve"
	"edgecache.dev/edgeagent/runtime"
)

const (
	diskSize    = 3200 * mib // so its slack is 50 MiB
	diskReserve = 500 * mib
)

// crowded is a bench with a small disk.
type crowded struct {
	*bench
	disk *disked
}

func newCrowded(t *testing.T, sizes map[digest.Digest]weight) *crowded {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
	c := &crowded{b, newDisked(b.driver, diskSize)}
	c.disk.sizes = sizes
	b.as = func(*driver) runtime.Driver { return c.disk }
	b.start(Options{Disk: c.disk.disk, Reserve: reserve.Reserve{Bytes: diskReserve}, Prober: c.disk})
	return c
}

// untouched wants the reserve never to have been touched by images.
func (c *crowded) untouched() {
	c.t.Helper()
	c.disk.locked(func() {
		if c.disk.least < diskReserve {
			c.t.Errorf("%d MiB were free at the worst, the reserve is %d", c.disk.least/mib, diskReserve/mib)
		}
	})
}

func (c *crowded) removals() (names []string) {
	c.disk.locked(func() { names = slices.Clone(c.disk.gone) })
	return names
}

// message is what the status says of an image.
func (c *crowded) message(name string) string {
	c.desk.mu.Lock()
	defer c.desk.mu.Unlock()
	for _, i := range c.desk.last.Images {
		if i.Name == name {
			return i.Message
		}
	}
	return ""
}

func ranked(name string, d digest.Digest, priority int32) v1alpha1.NodeImage {
	img := image(name, d)
	img.Priority = priority
	return img
}

// TestTooLarge: what does not fit fails with the figures, costs no attempts, and keeps
// nobody else from coming in.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowded(t, map[digest.Digest]weight{d1: {fetch: 1000 * mib, unpack: 2000 * mib}, d2: {fetch: 300 * mib, unpack: 600 * mib}})
		c.wish(2, images(ranked("r.io/large:v1", d1, 5), ranked("r.io/small:v1", d2, 0)))
		time.Sleep(30 * time.Minute)
		c.desk.expect(t, 2, "r.io/large:v1 Failed InsufficientDisk", "r.io/small:v1 Cached")
		want := "needs 2.9 GiB (1000 MiB to fetch, 2.0 GiB unpacked): 2.2 GiB free, of which 550 MiB stay free for the node; giving up all that is less important would free 900 MiB"
		if got := c.message("r.io/large:v1"); got != want {
			t.Errorf("message %q, want %q", got, want)
		}
		c.disk.locked(func() { // somebody gives the node a larger disk
			c.disk.capacity *= 2
		})
		time.Sleep(10 * time.Minute)
		c.desk.expect(t, 2, "r.io/large:v1 Cached", "r.io/small:v1 Cached")
		c.untouched()
		if d := c.desk.last.Disk; d == nil || d.Reserve != diskReserve {
			t.Errorf("disk = %+v, want a reserve of %d", d, int64(diskReserve))
		}
		c.stop()
	})
}

// TestMoreImportant: the least important image makes way, comes back when there is room, and
// takes no room from what took its own.
func TestMoreImportant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d3 := digestOf('3')
		one := weight{fetch: 300 * mib, unpack: 700 * mib}
		c := newCrowded(t, map[digest.Digest]weight{d1: one, d2: one, d3: one})
		low, mid, high := ranked("r.io/low:v1", d1, 0), ranked("r.io/mid:v1", d2, 1), ranked("r.io/top:v1", d3, 2)
		c.wish(2, images(low, mid))
		time.Sleep(10 * time.Minute)
		c.desk.expect(t, 2, "r.io/low:v1 Cached", "r.io/mid:v1 Cached")
		c.wish(3, images(low, mid, high))
		time.Sleep(3 * time.Hour)
		c.desk.expect(t, 3, "r.io/low:v1 Failed InsufficientDisk", "r.io/mid:v1 Cached", "r.io/top:v1 Cached")
		if got := c.message("r.io/low:v1"); !strings.HasPrefix(got, "given up for r.io/top:v1") && !strings.HasPrefix(got, "needs ") {
			t.Errorf("message %q", got)
		}
		if n := len(c.removals()); n != 2 {
			t.Errorf("%d names removed, want those of one image: %v", n, c.removals())
		}
		c.expectJournal("ImageCached", "ImageCached", "ImageFailing", "ImageCached") // and no ImageLost: nobody else took it
		spec := images(low, mid)
		spec.Remove = []v1alpha1.RemoveImage{{Name: "r.io/top:v1", Digest: d3.String()}}
		c.wish(4, spec)
		time.Sleep(10 * time.Minute)
		c.desk.expect(t, 4, "r.io/low:v1 Cached", "r.io/mid:v1 Cached")
		c.untouched()
		c.stop()
	})
}

// TestNothingGoesInVain: not what a container uses, not what is as important, and nothing
// while the registry is dark.
func TestNothingGoesInVain(t *testing.T) {
	t.Parallel()
	one := weight{fetch: 600 * mib, unpack: 1400 * mib}
	for name, tc := range map[string]struct {
		priority int32
		edit     func(*crowded)
		reason   string
	}{
		"a container uses it":    {5, func(c *crowded) { c.driver.use(d1) }, v1alpha1.ReasonInsufficientDisk},
		"it is as important":     {0, func(*crowded) {}, v1alpha1.ReasonInsufficientDisk},
		"the registry is dark":   {5, func(c *crowded) { c.disk.locked(func() { c.disk.unserved = true }) }, v1alpha1.ReasonRuntimeError},
		"the use is not known":   {5, func(c *crowded) { c.driver.with(func() { c.driver.blind = true }) }, v1alpha1.ReasonInsufficientDisk},
		"it would not be enough": {5, func(c *crowded) { c.disk.fill(1500 * mib) }, v1alpha1.ReasonInsufficientDisk},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCrowded(t, map[digest.Digest]weight{d1: one, d2: one})
				c.wish(2, images(ranked("r.io/here:v1", d1, 0)))
				time.Sleep(time.Minute)
				tc.edit(c)
				c.wish(3, images(ranked("r.io/here:v1", d1, 0), ranked("r.io/new:v1", d2, tc.priority)))
				time.Sleep(3 * time.Hour)
				c.desk.expect(t, 3, "r.io/here:v1 Cached", "r.io/new:v1 Failed "+tc.reason)
				if gone := c.removals(); len(gone) > 0 {
					t.Errorf("removed %v", gone)
				}
				c.stop()
			})
		})
	}
}

// TestFilledFromOutside: a pull is stopped before the reserve is touched, what it had goes if
// that is needed, and it begins again when there is room.
func TestFilledFromOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowded(t, map[digest.Digest]weight{d1: {fetch: 1000 * mib}})
		c.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(500 * time.Millisecond) // a half of it has come
		c.disk.fill(diskSize - 900*mib)    // with the half more than the reserve leaves
		time.Sleep(time.Hour)
		c.desk.expect(t, 2, "r.io/app:v1 Failed InsufficientDisk")
		if there := c.half(d1); there != 0 {
			t.Errorf("%d bytes of the half are kept below the reserve", there)
		}
		c.disk.fill(0)
		time.Sleep(10 * time.Minute)
		c.desk.expect(t, 2, "r.io/app:v1 Cached")
		c.stop()
	})
}

func (c *crowded) half(d digest.Digest) (n int64) {
	c.disk.locked(func() { n = c.disk.there[d] })
	return n
}

// TestUnpackedLargerThanThought: an image that is unpacked to more than its estimate is
// stopped, and does not keep the room of what was fetched from others.
func TestUnpackedLargerThanThought(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowded(t, map[digest.Digest]weight{d1: {fetch: 600 * mib, unpack: 3000 * mib, guess: 1000 * mib}, d2: {fetch: 1500 * mib, unpack: 800 * mib}})
		c.wish(2, images(ranked("r.io/bomb:v1", d1, 5), ranked("r.io/app:v1", d2, 0)))
		time.Sleep(3 * time.Hour)
		c.desk.expect(t, 2, "r.io/app:v1 Cached", "r.io/bomb:v1 Failed InsufficientDisk")
		c.untouched()
		// Once, if it was there first and the other one seemed to fit in its place.
		if n := strings.Count(strings.Join(c.removals(), " "), "r.io/app:v1"); n > 1 {
			t.Errorf("given up %d times for an image that does not fit: %v", n, c.removals())
		}
		c.stop()
	})
}
