package runtimetest

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Written says how much of a blob is in a store while it is on its way in: the offset of
// its ingest. What a registry has sent and what is there then are two things.
func Written(t *testing.T, store content.IngestManager, d digest.Digest) int64 {
	t.Helper()
	statuses, err := store.ListStatuses(t.Context())
	for errdefs.IsNotFound(err) { // one of them was completed while it was looked at
		statuses, err = store.ListStatuses(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statuses {
		if strings.Contains(s.Ref, d.String()) {
			return s.Offset
		}
	}
	return 0
}

// storeOf opens the store that a driver writes to: in a layout directory, or containerd's
// behind its socket.
func storeOf(t *testing.T, state string) content.IngestManager {
	t.Helper()
	info, err := os.Stat(state)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		store, err := local.NewStore(state)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	c, err := client.New(state, client.WithDefaultNamespace("k8s.io"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c.ContentStore()
}
