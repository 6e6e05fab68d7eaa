package realtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/platforms"

	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/cri"
)

// TestCRIOPins: pins are written once, outlive CRI-O, leave those of others alone, and go
// with the wish.
func TestCRIOPins(t *testing.T) {
	t.Parallel()
	c := startCRIO(t)
	reg := fetchtest.NewRegistry(t)
	wished, others := reg.Ref(t, "wished:v1"), reg.Ref(t, "others:v1")
	write(t, c.dropIns(), map[string]string{"10-site.conf": "[crio.image]\npinned_images = [\"" + others.String() + "\"]\n"})
	d := newCRI(t, cri.Options{Address: c.socket(), CRIOConfigDir: c.dropIns()})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	ensure := func(ref string, pin bool) {
		t.Helper()
		digest := reg.Push(t, ref, fetchtest.Image(t, platforms.DefaultString(), fetchtest.Layer(t, int64(ref[0]), 1000)))
		if err := d.Ensure(t.Context(), runtime.Request{Name: reg.Ref(t, ref), Digest: digest, Pin: pin}, nil); err != nil {
			t.Fatal(err)
		}
	}
	ensure("others:v1", false)
	ensure("wished:v1", true)
	file := filepath.Join(c.dropIns(), "99-edgecache-pins.conf")
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	ensure("wished:v1", true)
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("nothing changed, and the file was written anew (%v)", err)
	}
	if err := c.process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.process.Restart(); err != nil {
		t.Fatal(err)
	}
	c.awaitReady(t, func(ctx context.Context) error { _, err := d.Info(ctx); return err })
	if !c.pinned(t, wished) || !c.pinned(t, others) {
		t.Errorf("after a restart: wished pinned %v, others' pinned %v", c.pinned(t, wished), c.pinned(t, others))
	}
	inv, err := d.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name := range inv {
		if err := d.Release(t.Context(), name); err != nil {
			t.Errorf("releasing %s: %v", name, err)
		}
	}
	eventually(t, "the wished image is not pinned any more", func() bool { return !c.pinned(t, wished) })
	if c.pinned(t, wished) || !c.pinned(t, others) {
		t.Errorf("after the release: wished pinned %v, others' pinned %v", c.pinned(t, wished), c.pinned(t, others))
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file stays although it has nothing to say (%v)", err)
	}
}
