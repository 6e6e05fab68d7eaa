package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Machine is where files are written.
type Machine struct {
	// Root is "/" for the machine that this runs on, or the directory of another one's files.
	Root string
	// Dry says that nothing is written, and what would be is shown.
	Dry bool
	// Out gets a line per file.
	Out io.Writer
}

func (m Machine) path(p string) string { return filepath.Join(m.Root, p) }

// Say tells the user.
func (m Machine) Say(format string, values ...any) { fmt.Fprintf(m.Out, format+"\n", values...) }

// Write writes files that differ, and says whether any did.
func (m Machine) Write(files ...File) (changed bool, err error) {
	for _, f := range files {
		wrote, err := m.write(f)
		if err != nil {
			return changed, fmt.Errorf("installing %s: %w", m.path(f.Path), err)
		}
		changed = changed || wrote
	}
	return changed, nil
}

func (m Machine) write(f File) (bool, error) {
	path := m.path(f.Path)
	before, err := os.ReadFile(path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	case err == nil && bytes.Equal(before, f.Data):
		m.Say("%s is as it should be", path)
		return false, m.chmod(path, f.Mode)
	case m.Dry:
		m.show(f)
		return true, nil
	}
	if err := replace(path, f); err != nil {
		return false, err
	}
	m.Say("%s written", path)
	return true, nil
}

func (m Machine) chmod(path string, mode fs.FileMode) error {
	if m.Dry {
		return nil
	}
	return os.Chmod(path, mode)
}

// maxShown is the longest file that a dry run shows, in bytes: not a program.
const maxShown = 64 << 10

func (m Machine) show(f File) {
	m.Say("# %s, mode %04o, %d bytes", m.path(f.Path), f.Mode, len(f.Data))
	if len(f.Data) <= maxShown {
		m.Say("%s", f.Data)
	}
}

// replace never lets a reader see half a file, nor others one that is for its owner.
func replace(path string, f File) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // directories of the system
		return err
	}
	// Hidden: the kubelet reads every other file in its directory.
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(f.Data)
	err = errors.Join(err, tmp.Chmod(f.Mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// MakeDirs makes directories that are not there, for root alone.
func (m Machine) MakeDirs(dirs ...string) error {
	for _, d := range dirs {
		if len(m.Present(d)) > 0 {
			continue
		}
		if m.Dry {
			m.Say("# directory %s, mode 0700", m.path(d))
			continue
		}
		if err := os.MkdirAll(m.path(d), 0o700); err != nil {
			return fmt.Errorf("making the agent's directory: %w", err)
		}
		m.Say("%s made", m.path(d))
	}
	return nil
}

// Remove removes files that are there.
func (m Machine) Remove(paths ...string) error {
	for _, p := range m.Present(paths...) {
		if m.Dry {
			m.Say("%s would be removed", m.path(p))
			continue
		}
		if err := os.Remove(m.path(p)); err != nil {
			return fmt.Errorf("uninstalling: %w", err)
		}
		m.Say("%s removed", m.path(p))
	}
	return nil
}
