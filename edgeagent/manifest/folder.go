package manifest

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxFile is the longest file that is read, in bytes: what an API server takes of one
// request.
const maxFile = 3 << 20

// file is what a file of the directory has in it.
type file struct {
	name string
	data []byte
	err  error // why it could not be read
}

// stamp is another one when a file was written or replaced.
type stamp struct {
	inode   uint64
	changed int64 // ctime, which no tool sets back
	size    int64
}

// folder is a directory of manifests: *.yaml, *.yml and *.json, without hidden ones.
type folder struct {
	dir   string
	seen  map[string]stamp // at the last look, nil when that failed
	taken map[string]stamp // when it was read last, nil when never
}

// look reads the files if something changed since they were read last and nothing did since
// the last look. fresh is false when they were not read.
func (f *folder) look() (files []file, fresh bool, err error) {
	now, err := f.stamps()
	before := f.seen
	f.seen = now
	switch {
	case err != nil:
		return nil, false, err
	case before == nil || !maps.Equal(before, now), f.taken != nil && maps.Equal(f.taken, now):
		return nil, false, nil
	}
	f.taken = now
	for _, name := range slices.Sorted(maps.Keys(now)) {
		data, err := read(filepath.Join(f.dir, name))
		files = append(files, file{name: name, data: data, err: err})
	}
	return files, true, nil
}

func (f *folder) stamps() (map[string]stamp, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the directory of manifests (--manifest): %w", err)
	}
	all := map[string]stamp{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		all[e.Name()] = stamp{} // of one that cannot be looked at
		if info, err := os.Stat(filepath.Join(f.dir, e.Name())); err == nil {
			all[e.Name()] = stampOf(info)
		}
	}
	return all, nil
}

func stampOf(info os.FileInfo) stamp {
	s := stamp{size: info.Size(), changed: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode, s.changed = sys.Ino, sys.Ctim.Nano()
	}
	return s
}

// read reads a regular file: a pipe would keep the agent waiting.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading manifest: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("reading manifest: %s is no file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("reading manifest: %s has %d bytes, at most %d are read: split it", path, info.Size(), maxFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading manifest: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", path, err)
	}
	return data, nil
}
