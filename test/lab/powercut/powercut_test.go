package powercut

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCut: what was synced is there after a cut, and what was only written is not.
func TestCut(t *testing.T) {
	t.Parallel()
	for _, fs := range []FS{Ext4, XFS} {
		t.Run(string(fs), func(t *testing.T) {
			t.Parallel()
			d := New(t, fs, 64<<20)
			before := d.Cut(t)
			write(t, filepath.Join(d.Dir(), "synced"), true)
			write(t, filepath.Join(d.Dir(), "written"), false)
			after := d.Cut(t)

			at := after.Mount(t, "")
			if got := content(t, filepath.Join(at, "synced")); got != text {
				t.Errorf("synced before the cut: %q, want %q", got, text)
			}
			if got := content(t, filepath.Join(at, "written")); got == text {
				t.Error("the cut keeps what was never synced: it cuts nothing")
			}
			before.Mount(t, d.Dir())
			if got := content(t, filepath.Join(d.Dir(), "synced")); got != "" {
				t.Errorf("an earlier cut mounted over the disk has %q, want nothing", got)
			}
		})
	}
}

const text = "there"

func write(t *testing.T, path string, sync bool) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if sync {
		err = errors.Join(err, f.Sync())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}
