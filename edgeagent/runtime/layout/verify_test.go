package layout_test

import (
	"os"
	"testing"

	"golang.org/x/time/rate"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

// TestVerify: a blob of the right size with other bytes is found by reading it, given up, and
// brought again.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := fetchtest.Image(t, node, fetchtest.Layer(t, 1, 100_000))
	request := runtime.Request{Name: w.reg.Ref(t, "app:v1"), Digest: w.reg.Push(t, "app:v1", img)}
	layer := fetchtest.Blobs(t, img)[1]
	verify := func() runtime.Damage {
		t.Helper()
		if err := w.driver.Ensure(t.Context(), request, nil); err != nil {
			t.Fatal(err)
		}
		damage, err := w.driver.Verify(t.Context(), request.Digest, rate.NewLimiter(rate.Inf, fetch.ChunkSize))
		if err != nil {
			t.Fatal(err)
		}
		return damage
	}
	if damage := verify(); damage.Found() {
		t.Fatalf("intact: %+v", damage)
	}
	info, err := os.Stat(w.blob(layer))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.blob(layer)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.blob(layer), make([]byte, info.Size()), 0o600); err != nil {
		t.Fatal(err)
	}
	damage := verify()
	if len(damage.Blobs) != 1 || damage.Blobs[0] != layer {
		t.Fatalf("damage = %+v, want %s", damage, layer)
	}
	if err := w.driver.Discard(t.Context(), damage); err != nil {
		t.Fatal(err)
	}
	inv, err := w.driver.Inventory(t.Context())
	if err != nil || inv[request.Name].Complete {
		t.Errorf("%+v, %v, want it not to be complete", inv[request.Name], err)
	}
	if damage := verify(); damage.Found() {
		t.Errorf("brought again: %+v", damage)
	}
}
