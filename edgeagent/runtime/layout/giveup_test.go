package layout_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/platforms"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/layout"
)

// TestRemovingGivesUpTheHalf: what a cancelled pull left goes with the removal of its
// digest; what another image needs of it stays.
func TestRemovingGivesUpTheHalf(t *testing.T) {
	t.Parallel()
	reg := fetchtest.NewRegistry(t)
	where := dir(t.TempDir())
	d := open(t, layout.Options{Dir: string(where), Source: fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{reg.HostsDir(t, "")}})})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	base, own := fetchtest.Layer(t, 1, 1000), fetchtest.Layer(t, 2, 1_000_000)
	whole := fetchtest.Image(t, platforms.DefaultString(), base)
	kept := runtime.Request{Name: reg.Ref(t, "kept:v1"), Digest: reg.Push(t, "kept:v1", whole)}
	half := runtime.Request{Name: reg.Ref(t, "app:v1"), Digest: reg.Push(t, "app:v1", fetchtest.Image(t, platforms.DefaultString(), base, own))}
	if err := d.Ensure(t.Context(), kept, nil); err != nil {
		t.Fatal(err)
	}
	reg.Set(fetchtest.Faults{CutAfter: 500_000, Stall: true, Only: "/blobs/" + fetchtest.Digest(t, own).String()})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := d.Ensure(ctx, half, nil); err == nil {
		t.Fatal("Ensure succeeded with half a layer")
	}
	ingests := func() int {
		found, err := os.ReadDir(filepath.Join(string(where), "ingest"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if !where.has(t, half.Digest) || ingests() == 0 {
		t.Fatal("the half was not kept after the cancelled pull")
	}
	if err := d.Remove(t.Context(), half.Name.WithDigest(half.Digest)); err != nil {
		t.Fatal(err)
	}
	if where.has(t, half.Digest) || ingests() != 0 {
		t.Errorf("after the removal: manifest there %v, %d ingests", where.has(t, half.Digest), ingests())
	}
	if !where.has(t, kept.Digest) || !where.has(t, fetchtest.Digest(t, base)) {
		t.Error("what another image needs is gone, too")
	}
}
