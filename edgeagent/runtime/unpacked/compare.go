package unpacked

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	continuity "github.com/containerd/continuity/fs"
)

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	// chunk is how much of a file is compared at a time, in bytes.
	chunk = 32 << 10
)

// Compare reads a layer's tar and gives what differs in the directory that it was unpacked
// into, one line per path, sorted, at most 10; none when nothing does. The error says why
// the tar or the directory could not be read: nothing is known then. Deletions are compared
// where there is a layer below: containerd writes none into the lowest.
func Compare(ctx context.Context, dir string, layer io.Reader, lowest bool) ([]string, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("reading unpacked layer: %w", err)
	}
	c := comparison{dir: dir, lowest: lowest, differs: map[string]string{}}
	archive := tar.NewReader(layer)
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return c.lines(), nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = c.entry(entry, archive)
		}
		if err != nil {
			return nil, fmt.Errorf("comparing unpacked layer: %w", err)
		}
	}
}

type comparison struct {
	dir     string
	lowest  bool
	differs map[string]string // why, by path; a later entry of the same path counts
}

// maxLines of differences: which files are lost matters less than that any is.
const maxLines = 10

func (c *comparison) lines() []string {
	var lines []string
	for path, why := range c.differs {
		lines = append(lines, path+": "+why)
	}
	slices.Sort(lines)
	return lines[:min(len(lines), maxLines)]
}

// entry compares one entry of the tar.
func (c *comparison) entry(e *tar.Header, content io.Reader) error {
	name := filepath.Clean("/" + e.Name)
	parent, base := filepath.Split(name)
	within, err := continuity.RootPath(c.dir, parent)
	if err != nil {
		return lost(err)
	}
	deletion := strings.HasPrefix(base, whiteout)
	if base == "" || base == opaque || deletion && c.lowest || e.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	path := filepath.Join(within, strings.TrimPrefix(base, whiteout))
	var why string
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, syscall.EIO):
		why, err = "cannot be read from the disk", nil
	case err != nil:
		why, err = "is not there", lost(err)
	case deletion:
		why = wantKind(info, fs.ModeDevice|fs.ModeCharDevice)
	default:
		why, err = c.compare(e, info, path, content)
	}
	delete(c.differs, name)
	if why != "" {
		c.differs[name] = why
	}
	return err
}

// lost passes on the errors that do not say that a file is missing or damaged.
func lost(err error) error {
	for _, damage := range []error{fs.ErrNotExist, syscall.ENOTDIR, syscall.EIO, syscall.ELOOP} {
		if errors.Is(err, damage) {
			return nil
		}
	}
	return err
}

// compare says how what is at a path differs from an entry, "" when it does not.
func (c *comparison) compare(e *tar.Header, info fs.FileInfo, path string, content io.Reader) (string, error) {
	if why := wantKind(info, e.FileInfo().Mode().Type()); why != "" && e.Typeflag != tar.TypeLink {
		return why, nil
	}
	switch e.Typeflag {
	case tar.TypeReg:
		return compareFile(e.Size, info.Size(), path, content)
	case tar.TypeSymlink:
		if target, err := os.Readlink(path); err != nil || target != e.Linkname {
			return fmt.Sprintf("links to %q, want %q", target, e.Linkname), lost(err)
		}
	case tar.TypeLink:
		return c.compareLink(e, info)
	}
	return "", nil
}

func wantKind(info fs.FileInfo, want fs.FileMode) string {
	if got := info.Mode().Type(); got != want {
		return fmt.Sprintf("is %s, want %s", got, want)
	}
	return ""
}

// compareLink wants two names to be of one file.
func (c *comparison) compareLink(e *tar.Header, info fs.FileInfo) (string, error) {
	target, err := continuity.RootPath(c.dir, filepath.Dir(filepath.Clean("/"+e.Linkname)))
	if err != nil {
		return "is linked to nothing", lost(err)
	}
	other, err := os.Lstat(filepath.Join(target, filepath.Base(e.Linkname)))
	if err != nil || !os.SameFile(info, other) {
		return fmt.Sprintf("is not linked to %q", e.Linkname), lost(err)
	}
	return "", nil
}

// compareFile compares a file's bytes with those of the tar.
func compareFile(want, got int64, path string, content io.Reader) (string, error) {
	if got != want {
		return fmt.Sprintf("has %d bytes, want %d", got, want), nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "cannot be opened", lost(err)
	}
	defer func() { _ = file.Close() }()
	a, b := make([]byte, chunk), make([]byte, chunk)
	for {
		n, err := io.ReadFull(content, a)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return "", fmt.Errorf("reading the layer: %w", err)
		}
		if m, readErr := io.ReadFull(file, b[:n]); m != n || !bytes.Equal(a[:n], b[:n]) {
			if errors.Is(readErr, syscall.EIO) {
				return "cannot be read from the disk", nil
			}
			return "has other bytes than its layer", nil
		}
		if err != nil {
			return "", nil
		}
	}
}
