package capsule

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"edgecache.dev/test/lab/cgroup"
)

// apply makes the world of this capsule what s says.
func (s *Setup) apply() error {
	for _, step := range []func() error{s.separate, s.cover, s.overlay, s.shadow, s.set, s.name} {
		if err := step(); err != nil {
			return fmt.Errorf("setting the capsule up: %w", err)
		}
	}
	return nil
}

// separate cuts the capsule's mounts off from the world's and gives it a /proc of its own PID namespace.
func (s *Setup) separate() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	// Shared again, but only within the capsule: volumes that propagate mounts need it.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts within: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if s.Cgroups {
		return cgroup.Mount()
	}
	return nil
}

// cover puts folders in the place of others.
func (s *Setup) cover() error {
	for _, c := range s.Covers {
		if err := c.apply(s.Keep); err != nil {
			return fmt.Errorf("covering %s: %w", c.Target, err)
		}
	}
	return nil
}

func (c Cover) apply(keep []string) error {
	target, err := filepath.EvalSymlinks(c.Target)
	if err != nil {
		return err
	}
	kept, err := openBelow(target, keep)
	defer func() {
		for _, f := range kept {
			closeFile(f)
		}
	}()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Source, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(c.Source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for path, f := range kept {
		if err := reveal(path, f); err != nil {
			return err
		}
	}
	return nil
}

// overlay lets folders be changed for the capsule alone.
func (s *Setup) overlay() error {
	for _, o := range s.Overlays {
		changes, work := filepath.Join(o.Source, "changes"), filepath.Join(o.Source, "work")
		for _, dir := range []string{changes, work} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", o.Target, changes, work)
		if err := unix.Mount("overlay", o.Target, "overlay", 0, options); err != nil {
			return fmt.Errorf("laying changes over %s: %w", o.Target, err)
		}
	}
	return nil
}

// openBelow opens those of paths that lie below target, by path.
func openBelow(target string, paths []string) (map[string]*os.File, error) {
	opened := map[string]*os.File{}
	for _, path := range paths {
		path, err := filepath.EvalSymlinks(path)
		if err != nil {
			return opened, err
		}
		if !strings.HasPrefix(path, target+"/") {
			continue
		}
		if opened[path], err = os.Open(path); err != nil {
			delete(opened, path)
			return opened, err
		}
	}
	return opened, nil
}

// reveal mounts a folder, opened before it was covered, where it was.
func reveal(path string, f *os.File) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return unix.Mount("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), path, "", unix.MS_BIND|unix.MS_REC, "")
}

// shadow makes files of /proc show what they should, and keeps the machine's own from being changed.
func (s *Setup) shadow() error {
	if len(s.Shadows) == 0 {
		return nil
	}
	if err := os.MkdirAll(s.ShadowDir, 0o755); err != nil {
		return err
	}
	for path, content := range s.Shadows {
		shown := filepath.Join(s.ShadowDir, strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "-"))
		if err := os.WriteFile(shown, []byte(content+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(shown, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("shadowing %s: %w", path, err)
		}
	}
	return nil
}

// set writes kernel settings, in the order of their names: those of the network are the capsule's own.
func (s *Setup) set() error {
	var paths []string
	for path := range s.Settings {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		if err := os.WriteFile(path, []byte(s.Settings[path]), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (s *Setup) name() error {
	if s.Hostname == "" {
		return nil
	}
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("setting the hostname: %w", err)
	}
	return nil
}
