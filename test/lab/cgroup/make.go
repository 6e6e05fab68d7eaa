package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// initGroup is where, with version 2, the processes of a machine itself are: a group that passes controllers on to others
// must not hold processes.
const initGroup = "init"

// Make makes the group called name ("lab/machine") in every hierarchy, fit to hold processes and further groups.
func Make(name string) error {
	found, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range found {
		group := h.point
		for element := range strings.SplitSeq(name, "/") {
			if h.unified {
				passOn(group)
			}
			parent := group
			group = filepath.Join(group, element)
			if err := os.MkdirAll(group, 0o755); err != nil {
				return fmt.Errorf("making control group %s: %w", name, err)
			}
			if err := inheritCPUs(parent, group); err != nil {
				return fmt.Errorf("making control group %s: %w", name, err)
			}
		}
	}
	return nil
}

// passOn lets groups below a version 2 group use its controllers, one by one: some cannot be passed on, and whether those
// that are needed could shows in what runs there.
func passOn(group string) {
	controllers, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return
	}
	for controller := range strings.FieldsSeq(string(controllers)) {
		_ = os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
}

// inheritCPUs copies to a new version 1 group the processors and memory that its parent may use: without them no process
// can enter it.
func inheritCPUs(parent, group string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(group, file))
		if err != nil || strings.TrimSpace(string(own)) != "" {
			continue // Another controller's hierarchy, version 2, or inherited already.
		}
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(value)) == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(group, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Move moves the process pid into the group called name, in every hierarchy.
func Move(name string, pid int) error {
	points, err := Hierarchies()
	if err != nil {
		return err
	}
	for _, point := range points {
		procs := filepath.Join(point, name, "cgroup.procs")
		if err := os.WriteFile(procs, []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("moving process %d into control group %s: %w", pid, name, err)
		}
	}
	return nil
}

// Mount mounts every hierarchy anew in its place, in the mount namespace of this process. In a control group namespace the
// new mount begins at the namespace's root: what is outside is not seen and cannot be touched. The process itself then
// moves out of the root's way. The caller has mounts that nobody else sees.
func Mount() error {
	found, err := hierarchies()
	if err != nil {
		return err
	}
	known, err := knownControllers()
	if err != nil {
		return err
	}
	for _, h := range found {
		if err := h.remount(known); err != nil {
			return fmt.Errorf("mounting control groups at %s: %w", h.point, err)
		}
	}
	return nil
}

func (h hierarchy) remount(known []string) error {
	if err := unix.Unmount(h.point, unix.MNT_DETACH); err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if !h.unified {
		return unix.Mount("cgroup", h.point, "cgroup", flags, h.controllers(known))
	}
	if err := unix.Mount("cgroup2", h.point, "cgroup2", flags, ""); err != nil {
		return err
	}
	group := filepath.Join(h.point, initGroup)
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return err
	}
	passOn(h.point)
	return nil
}

// Missing returns which controllers that container runtimes want are not there in the group called name, made by Make. With
// version 1 a missing controller has no hierarchy at all, which runtimes cope with or not.
func Missing(name string) ([]string, error) {
	if !Unified() {
		return nil, nil
	}
	controllers, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", name, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("looking at control group %s: %w", name, err)
	}
	there := strings.Fields(string(controllers))
	return slices.DeleteFunc([]string{"cpu", "memory", "pids"}, func(c string) bool { return slices.Contains(there, c) }), nil
}
