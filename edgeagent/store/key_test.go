package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgecache.dev/internal/seal"
)

func openKey(t *testing.T, dir, node string) *seal.Key {
	t.Helper()
	k, err := OpenKey(t.Context(), dir, node)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := openKey(t, dir, "node-1")
	info, err := os.Stat(filepath.Join(dir, KeyFileName))
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if second := openKey(t, dir, "node-1"); second.ID() != first.ID() || second.Recipient() != first.Recipient() {
		t.Error("the next start has another key")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// TestKeyMadeAnew: from whatever stands in the file, and what stood there is kept.
func TestKeyMadeAnew(t *testing.T) {
	t.Parallel()
	other, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(string) string{
		"empty":           func(string) string { return "" },
		"half":            func(s string) string { return s[:len(s)-10] },
		"a changed byte":  func(s string) string { return s[:len(s)-5] + "1" + s[len(s)-4:] },
		"zeros":           func(s string) string { return strings.Repeat("\x00", len(s)) },
		"very long":       func(s string) string { return s + strings.Repeat("\n", maxKeyBytes) },
		"of another node": func(s string) string { return strings.Replace(s, "node-1", "node-2", 1) },
		"of nobody":       func(string) string { return other.Text() + "\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first, path := openKey(t, dir, "node-1"), filepath.Join(dir, KeyFileName)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			spoiled := spoil(string(b))
			if err := os.WriteFile(path, []byte(spoiled), 0o600); err != nil {
				t.Fatal(err)
			}
			second := openKey(t, dir, "node-1")
			if second.ID() == first.ID() || openKey(t, dir, "node-1").ID() != second.ID() {
				t.Error("no new key that is kept")
			}
			aside, err := filepath.Glob(path + ".damaged-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("moved aside: %v, %v", aside, err)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != spoiled {
				t.Errorf("what was moved aside is not what stood there: %v", err)
			}
		})
	}
}

// TestKeyThatOthersMayRead is refused: it may not be a secret any more.
func TestKeyThatOthersMayRead(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o777} {
		dir := t.TempDir()
		key, path := openKey(t, dir, "node-1"), filepath.Join(dir, KeyFileName)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := OpenKey(t.Context(), dir, "node-1")
		if err == nil || !strings.Contains(err.Error(), "must be 0600") || strings.Contains(err.Error(), key.Text()) {
			t.Errorf("with mode %o: %v", mode, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if openKey(t, dir, "node-1").ID() != key.ID() {
			t.Error("the key did not survive being refused")
		}
	}
}

func TestKeyThatIsNoFile(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	openKey(t, elsewhere, "node-1")
	if err := os.Symlink(filepath.Join(elsewhere, KeyFileName), filepath.Join(dir, KeyFileName)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKey(t.Context(), dir, "node-1"); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("error = %v", err)
	}
}

// TestKeyThatCannotBeWritten: the node works, with a key that lasts until it restarts.
func TestKeyThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, KeyFileName+".new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if k := openKey(t, dir, "node-1"); k.ID() == "" {
		t.Error("no key")
	}
	if _, err := os.Stat(filepath.Join(dir, KeyFileName)); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}
