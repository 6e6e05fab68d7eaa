package store

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRecall reads a store that nobody has open, and none that somebody has.
func TestRecall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if _, _, _, err := Recall(path); err == nil {
		t.Error("recalled from nothing")
	}
	s, _, err := Open(t.Context(), dir, "n1", inChild)
	if err != nil {
		t.Fatal(err)
	}
	entry := Entry{Name: "r.io/app:v1", Digest: "sha256:1"}
	if err := s.Write(Change{Desired: new(wished(3)), Save: []Entry{entry}}); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := Recall(path); !errors.Is(err, ErrLocked) {
		t.Errorf("while an agent has it open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	node, desired, ledger, err := Recall(path)
	if err != nil || node != "n1" {
		t.Errorf("node %q, error %v", node, err)
	}
	if diff := cmp.Diff(wished(3), desired) + cmp.Diff(map[string]Entry{entry.Name: entry}, ledger); diff != "" {
		t.Errorf("recalled (-want +got):\n%s", diff)
	}
}
