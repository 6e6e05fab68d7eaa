package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	// removeTimeout bounds the wait for a group to become empty: the kernel takes a moment to let ended processes go, and
	// more on a busy machine.
	removeTimeout = 2 * time.Minute
	removePoll    = 20 * time.Millisecond
)

// Remove removes the group called name, and all below it, from every hierarchy of the machine. A group that is not
// there is not an error; one that still holds processes is.
func Remove(name string) error {
	points, err := Hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, point := range points {
		errs = append(errs, removeTree(filepath.Join(point, name)))
	}
	return errors.Join(errs...)
}

// removeTree removes a group and those below it, the deepest first.
func removeTree(root string) error {
	var groups []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("removing control group %s: %w", root, err)
	}
	slices.Reverse(groups)
	var errs []error
	for _, group := range groups {
		errs = append(errs, removeOne(group))
	}
	return errors.Join(errs...)
}

func removeOne(group string) error {
	for deadline := time.Now().Add(removeTimeout); ; time.Sleep(removePoll) {
		err := syscall.Rmdir(group)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("removing control group %s: %w", group, err)
		}
	}
}
