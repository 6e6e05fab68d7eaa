package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"edgecache.dev/test/lab/omit"
)

// small mounts a file system of a few MiB.
func small(t *testing.T) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		omit.Test(t, "mounting a small file system needs root")
	}
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		omit.Test(t, "this machine mounts no tmpfs: %v", err)
	}
	t.Cleanup(func() {
		// Detached: a child of another test that was about to begin may have a file open.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullDisk: the reserve pays for what has to be written, and comes back with the room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := small(t)
	state := filepath.Join(dir, "state")
	s, _ := open(t, state, "n1")
	if err := s.Write(Change{Desired: new(wished(1))}); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	// bbolt's file grows for these: without the reserve there is no room.
	if err := s.Write(Change{Desired: new(wished(2)), Save: entries(600)}); err != nil {
		t.Fatalf("writing to a full disk with a reserve: %v", err)
	}
	if _, err := os.Stat(s.reserve.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reserve is still there: %v", err)
	}
	fill(t, filler+"-2")
	if err := s.Write(Change{Save: entries(20000)}); !isFull(err) {
		t.Fatalf("writing to a full disk without one: %v", err)
	}
	// A restart in that state, and with nothing to read: the agent works from memory.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, origin := open(t, state, "n1")
	if origin != (Origin{}) {
		t.Errorf("opened on a full disk: %+v", origin)
	}
	if ledger, err := s.Ledger(); err != nil || len(ledger) != 600 {
		t.Errorf("%d entries, %v, want what was stored", len(ledger), err)
	}
	remove(t, filler)
	if err := s.Write(Change{Save: entries(2000)}); err != nil {
		t.Errorf("writing with room again: %v", err)
	}
	if info, err := os.Stat(s.reserve.path); err != nil || info.Size() != reserveBytes {
		t.Errorf("the reserve is not made again: %v", err)
	}
}

// fill takes all room there is.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 4 << 10} {
		for b := make([]byte, size); err == nil; {
			_, err = f.Write(b)
		}
		if !isFull(err) {
			t.Fatal(err)
		}
		err = nil
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAFullDiskAtTheStart has nothing to give up: the agent works from memory until there is room.
func TestAFullDiskAtTheStart(t *testing.T) {
	t.Parallel()
	dir := small(t)
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	s, origin := open(t, dir, "n1")
	if !isFull(origin.Degraded) || !origin.New {
		t.Fatalf("origin: %+v", origin)
	}
	if err := s.Write(Change{Save: entries(1)}); !isFull(err) {
		t.Errorf("Write: %v", err)
	}
	remove(t, filler)
	s.mended(t)
	if err := s.Write(Change{Save: entries(1)}); err != nil {
		t.Error(err)
	}
}

// TestAReadOnlyDisk: what is there is known, also that nothing is written; and it is written once that can be.
func TestAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	dir := small(t)
	s, _ := open(t, dir, "n1")
	if err := errors.Join(s.Write(Change{Desired: new(wished(1)), Save: entries(3)}), s.Close()); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	s, origin := open(t, dir, "n1")
	if !errors.Is(origin.Degraded, syscall.EROFS) || !strings.Contains(origin.Degraded.Error(), "working from memory") {
		t.Fatalf("origin: %+v", origin)
	}
	expectWish(t, s, wished(1))
	if ledger, err := s.Ledger(); err != nil || len(ledger) != 3 {
		t.Errorf("%d entries, %v", len(ledger), err)
	}
	if err := s.Write(Change{Desired: new(wished(2))}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Write: %v", err)
	}
	if _, err := OpenKey(t.Context(), dir, "n1"); err != nil {
		t.Errorf("a key that cannot be kept: %v", err)
	}
	remount(0)
	s.mended(t)
	if err := s.Write(Change{Desired: new(wished(2))}); err != nil {
		t.Error(err)
	}
	expectWish(t, s, wished(2))
}
