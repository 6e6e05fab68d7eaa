package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const (
	reserveName = "reserve"
	// reserveBytes is room for thousands of commits and a wish in both its snapshots.
	reserveBytes = 4 << 20
	// reserveRoom is how much must be free for the reserve to be made again.
	reserveRoom = 8 * reserveBytes
)

// reserve is a file that keeps room on the disk, to be given up when the disk is full:
// an image can only be given up for others if that can be written down.
type reserve struct{ path string }

// giveUp makes room and says whether there was any to make.
func (r reserve) giveUp() bool { return os.Remove(r.path) == nil }

// keep makes the reserve if it is missing and there is room. Nothing is written to its
// blocks. A file system that cannot set room aside has none.
func (r reserve) keep() {
	if _, err := os.Lstat(r.path); !errors.Is(err, os.ErrNotExist) {
		return
	}
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	var fs unix.Statfs_t
	err = unix.Fstatfs(int(f.Fd()), &fs)
	if err == nil && fs.Bavail*uint64(fs.Bsize) < reserveRoom {
		err = unix.ENOSPC
	}
	if err == nil {
		err = unix.Fallocate(int(f.Fd()), 0, 0, reserveBytes)
	}
	if errors.Join(err, f.Close()) != nil {
		_ = os.Remove(r.path) // or the next one does: it is empty
	}
}
