package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"edgecache.dev/test/lab/powercut"
)

// cuts is how often the power is cut per file system.
const cuts = 20

// counting counts up in a store on a disk, and says what was acknowledged.
type counting struct {
	acked atomic.Int64
	stop  chan struct{}
	done  chan error
}

func (c *counting) write(s *Store) error {
	for n := int64(1); ; n++ {
		select {
		case <-c.stop:
			return nil
		default:
		}
		d := wished(n)
		e := Entry{Name: "r.io/app:v1", Digest: strconv.FormatInt(n, 10)}
		if err := s.Write(Change{Desired: &d, Save: []Entry{e}, Notes: []Record{{Time: noon, Kind: ImageCached, Image: e.Name}}}); err != nil {
			return err
		}
		c.acked.Store(n)
	}
}

func count(t *testing.T, s *Store) *counting {
	t.Helper()
	c := &counting{stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { c.done <- c.write(s) }()
	return c
}

func (c *counting) end(t *testing.T) {
	t.Helper()
	close(c.stop)
	if err := <-c.done; err != nil {
		t.Error(err)
	}
}

// cut cuts the power at some instant and says what had been acknowledged before.
func (c *counting) cut(t *testing.T, d *powercut.Disk) (*powercut.Image, int64) {
	t.Helper()
	time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
	acked := c.acked.Load()
	return d.Cut(t), acked
}

// TestPowerCuts: what was acknowledged is there after a power cut at any instant, in a store that opens as it is, and in
// a snapshot of the wish.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	for _, fs := range []powercut.FS{powercut.Ext4, powercut.XFS} {
		t.Run(string(fs), func(t *testing.T) {
			t.Parallel()
			disk := powercut.New(t, fs, 64<<20)
			s, _ := open(t, filepath.Join(disk.Dir(), "state"), "n1")
			c := count(t, s)
			for range cuts {
				image, acked := c.cut(t, disk)
				after, origin := open(t, filepath.Join(image.Mount(t, ""), "state"), "n1")
				if acked > 0 && origin != (Origin{}) {
					t.Errorf("after a cut at %d: %+v", acked, origin)
				}
				d, _, err := after.Desired()
				ledger, ledgerErr := after.Ledger()
				if err := errors.Join(err, ledgerErr); err != nil {
					t.Fatal(err)
				}
				var n int64
				_, _ = fmt.Sscan(ledger["r.io/app:v1"].Digest, &n)
				newest, _ := after.wish.newest()
				if d.Generation < acked || n != d.Generation || newest.Desired.Generation < acked {
					t.Errorf("after a cut at %d: the wish is %d, the ledger %d, the snapshot %d", acked, d.Generation, n, newest.Desired.Generation)
				}
				closeStore(t, after)
			}
			c.end(t)
			t.Logf("%d cuts, %d writes", cuts, c.acked.Load())
		})
	}
}

// TestPowerCutsAreNoticed: a store that is not flushed loses what it acknowledged. Else the test above shows nothing.
func TestPowerCutsAreNoticed(t *testing.T) {
	t.Parallel()
	disk := powercut.New(t, powercut.Ext4, 64<<20)
	s, _ := open(t, filepath.Join(disk.Dir(), "state"), "n1")
	if err := s.Write(Change{Save: entries(1)}); err != nil {
		t.Fatal(err)
	}
	s.db.NoSync = true
	for n := range 2000 {
		if err := s.Write(Change{Save: []Entry{{Name: "last", Digest: strconv.Itoa(n)}}}); err != nil {
			t.Fatal(err)
		}
	}
	image := disk.Cut(t)
	after, origin := open(t, filepath.Join(image.Mount(t, ""), "state"), "n1")
	ledger, err := after.Ledger()
	if err != nil {
		t.Fatal(err)
	}
	if ledger["last"].Digest == "1999" && origin == (Origin{}) {
		t.Error("nothing is lost without a flush")
	}
	closeStore(t, after)
	s.db.NoSync = false
}
