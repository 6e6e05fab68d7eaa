package edgeagent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/v1alpha1"
)

// TestRoomAtRandom gives an agent with a small disk random wishes one after the other, with
// containers that come and go, a registry that is dark at times, and others that fill the
// disk. At no instant do images touch the reserve, nothing in use goes, nothing goes for what
// is not more important, and after each change there is an end to it.
func TestRoomAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { atRandom(t, rand.New(rand.NewPCG(seed, 5))) })
		})
	}
}

func atRandom(t *testing.T, rng *rand.Rand) {
	t.Helper()
	sizes := map[digest.Digest]weight{}
	for i := range 8 {
		fetch := (50 + rng.Int64N(400)) * mib
		sizes[digestOf(byte('1'+i))] = weight{fetch: fetch, unpack: fetch * (1 + rng.Int64N(3))}
	}
	c := newCrowded(t, sizes)
	for generation := range int64(5) {
		spec := v1alpha1.NodeImageCacheSpec{}
		for i := range 8 {
			img := ranked(fmt.Sprintf("r.io/img%d:v1", i), digestOf(byte('1'+i)), rng.Int32N(4))
			if rng.IntN(4) > 0 {
				spec.Images = append(spec.Images, img)
			}
		}
		used := []digest.Digest{digestOf(byte('1' + rng.IntN(8))), digestOf(byte('1' + rng.IntN(8)))}
		c.driver.use(used...)
		c.disk.locked(func() { c.disk.unserved = rng.IntN(4) == 0 })
		before := c.inUse(used)
		c.wish(generation+1, spec)
		time.Sleep(10 * time.Minute)
		for _, name := range before {
			if _, there := c.driver.holds()[ref(name)]; !there {
				t.Errorf("generation %d: %s was in use and is gone", generation, name)
			}
		}
		time.Sleep(2 * time.Hour)
		c.settled(generation)
		c.justified(spec.Images, used)
	}
	c.untouched()
	c.stop()
}

// inUse gives the names of the images that containers use.
func (c *crowded) inUse(used []digest.Digest) (names []string) {
	for name, h := range c.driver.holds() {
		for _, d := range used {
			if h.Digest == d {
				names = append(names, name.String())
			}
		}
	}
	return names
}

// justified wants no wished image to be missing although less important ones that nobody
// uses could make enough room for it, if its registry answers.
func (c *crowded) justified(wished []v1alpha1.NodeImage, used []digest.Digest) {
	c.t.Helper()
	holds := c.driver.holds()
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	free := c.disk.capacity - c.disk.used() - diskReserve - c.disk.capacity/64
	for _, img := range wished {
		w, room := c.disk.sizes[digest.Digest(img.Digest)], free
		if _, there := holds[ref(img.Name)]; there || c.disk.unserved && w.fetch+w.unpack > free {
			continue
		}
		for _, other := range wished {
			d := digest.Digest(other.Digest)
			if _, there := holds[ref(other.Name)]; there && other.Priority < img.Priority && !slices.Contains(used, d) {
				room += c.disk.there[d]
			}
		}
		if w.fetch+w.unpack <= room {
			c.t.Errorf("%s (priority %d) is missing and needs %d MiB; there could be %d", img.Name, img.Priority, (w.fetch+w.unpack)/mib, room/mib)
		}
	}
}

// settled wants hours to pass without anything being given up or brought in.
func (c *crowded) settled(generation int64) {
	c.t.Helper()
	gone, begun := len(c.removals()), len(c.driver.calls())
	time.Sleep(12 * time.Hour)
	if more := c.removals()[gone:]; len(more) > 0 {
		c.t.Errorf("generation %d: given up in twelve quiet hours: %s", generation, strings.Join(more, ", "))
	}
	if more := c.driver.calls()[begun:]; len(more) > 0 {
		c.t.Errorf("generation %d: brought in twelve quiet hours: %s", generation, strings.Join(more, ", "))
	}
}
