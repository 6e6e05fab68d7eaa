package cri_test

import (
	"testing"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestUnsynced: images of a runtime whose disk the agent does not see are not known to be
// synced, and that is told; none is lost for it.
func TestUnsynced(t *testing.T) {
	t.Parallel()
	s, d := serve(t, "cri-o", nil)
	unsynced := func() bool {
		t.Helper()
		if _, err := d.Inventory(t.Context()); err != nil {
			t.Fatal(err)
		}
		info, err := d.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.Unsynced
	}
	if unsynced() {
		t.Error("a runtime without images has some that are not synced")
	}
	s.with(func() { s.images["sha256:a"] = &api.Image{Id: "sha256:a"} })
	for range 2 {
		if !unsynced() {
			t.Error("an image that could not be synced counts as synced")
		}
	}
	s.with(func() { s.root = t.TempDir() })
	if unsynced() {
		t.Error("an image that was synced counts as not synced")
	}
}

func (s *server) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}
