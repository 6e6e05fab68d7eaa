package labdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// youngest is the age below which an empty file is a lab that is just being made, not a dead one.
	youngest = time.Minute
	// janitorPatience bounds a janitor's work: the wait for a dead lab's lock, which goes when the last of its process has
	// gone, and then for what that process has left to be let go.
	janitorPatience = 2 * time.Minute
	janitorPoll     = 50 * time.Millisecond
)

// Sweep clears away the labs of this user whose process has ended, and goes on with the next if one resists. It returns
// how many were cleared away.
func Sweep() (int, error) {
	list, err := ensureList()
	if err != nil {
		return 0, fmt.Errorf("sweeping dead labs: %w", err)
	}
	entries, err := filepath.Glob(filepath.Join(list, "*.lab"))
	if err != nil {
		return 0, fmt.Errorf("sweeping dead labs: %w", err)
	}
	var errs []error
	swept := 0
	for _, entry := range entries {
		dead, err := sweep(entry)
		if err != nil {
			errs = append(errs, err)
		} else if dead {
			swept++
		}
	}
	return swept, errors.Join(errs...)
}

// sweep clears away the lab of entry if it is dead.
func sweep(entry string) (dead bool, err error) {
	f, err := os.OpenFile(entry, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("sweeping %s: %w", entry, err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false, nil // Alive.
	}
	return clearLocked(entry, f)
}

// clearLocked clears away the lab whose file f is and is locked.
func clearLocked(entry string, f *os.File) (bool, error) {
	var r record
	err := json.NewDecoder(f).Decode(&r)
	if errors.Is(err, io.EOF) {
		return clearEmpty(entry, f)
	}
	if err != nil {
		return false, fmt.Errorf("sweeping %s: %w", entry, err)
	}
	return true, r.clear(entry)
}

// clearEmpty removes the file of a lab that died while it was made, before it had anything.
func clearEmpty(entry string, f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || time.Since(info.ModTime()) < youngest {
		return false, err
	}
	return true, os.Remove(entry)
}

// Clean is the janitor's work: it waits until alive ends, then for the lab's process to be gone, and clears the lab away.
// It does nothing if that process has done so itself.
func Clean(alive io.Reader, entry string) error {
	// Whatever comes or fails here, the other end is gone when reading ends.
	_, _ = io.Copy(io.Discard, alive)
	for deadline := time.Now().Add(janitorPatience); ; time.Sleep(janitorPoll) {
		if _, err := os.Stat(entry); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		// What resists now may not in a moment: a mount or a process of the dead lab that is just going.
		_, err := sweep(entry)
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("the lab of %s is still there after %s", entry, janitorPatience), err)
		}
	}
}
