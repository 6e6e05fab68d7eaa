package powercut

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// FS is the kind of file system on a disk.
type FS string

// What a disk can have.
const (
	Ext4 FS = "ext4"
	XFS  FS = "xfs"
)

// leastXFS is the smallest file system that mkfs.xfs makes, in bytes.
const leastXFS = 300 << 20

// clones is how many times over the outer file system can hold the disk. It is sparse: unwritten room costs nothing.
const clones = 16

// A Disk is a mounted file system of which images can be taken at any instant. It is safe for concurrent use.
type Disk struct {
	fs     FS
	folder string
	count  atomic.Int64
}

// New makes and mounts a disk of at least size bytes. It goes with the test, or leaves it out where the machine cannot.
func New(tb testing.TB, fs FS, size int64) *Disk {
	tb.Helper()
	require(tb, fs)
	d := &Disk{fs: fs, folder: folder(tb)}
	if fs == XFS {
		size = max(size, leastXFS)
	}
	format(tb, XFS, d.at("outer.img"), max(clones*size, leastXFS))
	mount(tb, XFS, d.at("outer.img"), d.at("outer"))
	format(tb, fs, d.at("outer", "inner.img"), size)
	mount(tb, fs, d.at("outer", "inner.img"), d.Dir())
	return d
}

func (d *Disk) at(names ...string) string {
	return filepath.Join(append([]string{d.folder}, names...)...)
}

// Dir is where the disk is mounted.
func (d *Disk) Dir() string { return d.at("disk") }

// An Image is what a disk held at one instant.
type Image struct {
	disk *Disk
	file string
	n    int64
}

// Cut takes an image of the disk as a power cut now would leave it. Who writes to the disk goes on.
func (d *Disk) Cut(tb testing.TB) *Image {
	tb.Helper()
	n := d.count.Add(1)
	i := &Image{disk: d, n: n, file: d.at("outer", fmt.Sprintf("cut-%d.img", n))}
	if err := clone(d.at("outer", "inner.img"), i.file); err != nil {
		tb.Fatalf("cutting the power of %s: %v", d.Dir(), err)
	}
	tb.Cleanup(func() {
		if err := os.Remove(i.file); err != nil {
			tb.Error(err)
		}
	})
	return i
}

// Mount mounts the image and says where: at a folder of its own, or at dir, which exists, if that is not empty. Over the
// disk's own Dir, everybody who opens files there from now on finds what the cut left. It is unmounted with the test.
func (i *Image) Mount(tb testing.TB, dir string) string {
	tb.Helper()
	if dir == "" {
		dir = i.disk.at(fmt.Sprintf("cut-%d", i.n))
	}
	mount(tb, i.disk.fs, i.file, dir)
	return dir
}

func clone(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = dst.Close() }()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		return &os.PathError{Op: "ficlone", Path: from, Err: err}
	}
	return nil
}
