package realtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/time/rate"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/containerd"
)

// twins are two images with a lowest layer in common.
type twins struct {
	*world
	driver   *containerd.Driver
	requests [2]runtime.Request
	base     digest.Digest
}

func newTwins(t *testing.T, o options) *twins {
	t.Helper()
	w := newWorld(t, o)
	p := &twins{world: w, driver: w.containerd(t)}
	base := fetchtest.Layer(t, 1, 100_000)
	for i, name := range []string{"left:v1", "right:v1"} {
		img := fetchtest.Image(t, node(), base, fetchtest.Layer(t, int64(i)+2, 50_000))
		p.requests[i] = runtime.Request{Name: w.reg.Ref(t, name), Digest: w.reg.Push(t, name, img), Pin: true}
		p.base = fetchtest.Blobs(t, img)[1]
		p.bring(t, i)
	}
	w.reg.Forget()
	return p
}

func (p *twins) bring(t *testing.T, i int) {
	t.Helper()
	if err := p.driver.Ensure(t.Context(), p.requests[i], nil); err != nil {
		t.Fatal(err)
	}
}

func (p *twins) verify(t *testing.T, i int) runtime.Damage {
	t.Helper()
	damage, err := p.driver.Verify(t.Context(), p.requests[i].Digest, rate.NewLimiter(rate.Inf, fetch.ChunkSize))
	if err != nil {
		t.Fatal(err)
	}
	return damage
}

func (p *twins) complete(t *testing.T) (which [2]bool) {
	t.Helper()
	for i, r := range p.requests {
		which[i] = p.inventory(t, p.driver)[r.Name].Complete
	}
	return which
}

// unpackedFile finds a file of layers that are unpacked: of the base, whose is the largest.
func (p *twins) unpackedFile(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.dir, "root/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && info.Size() == 100_000 {
			return path
		}
	}
	t.Fatalf("no file of 100,000 bytes among %v", found)
	return ""
}

// TestDamagedSnapshotIsMended: a file that a power cut emptied is found, in every image that
// has its layer, and comes back out of the blob that is kept, without a byte of the registry.
func TestDamagedSnapshotIsMended(t *testing.T) {
	t.Parallel()
	p := newTwins(t, options{})
	if damage := p.verify(t, 0); damage.Found() {
		t.Fatalf("an intact image has %+v", damage)
	}
	if err := os.Truncate(p.unpackedFile(t), 0); err != nil {
		t.Fatal(err)
	}
	if p.bring(t, 0); p.complete(t) != [2]bool{true, true} {
		t.Error("looking at an image reads no files, and yet the damage was seen")
	}
	damage := p.verify(t, 1)
	if damage.Snapshot == "" || len(damage.Blobs) != 0 || !strings.Contains(damage.What, "has 0 bytes, want 100000") {
		t.Fatalf("damage = %+v", damage)
	}
	if err := p.driver.Discard(t.Context(), damage); err != nil {
		t.Fatal(err)
	}
	if got := p.complete(t); got != [2]bool{} {
		t.Errorf("complete: %v, want neither: both stood on the damaged layer", got)
	}
	for i := range p.requests {
		p.bring(t, i)
		if damage := p.verify(t, i); damage.Found() {
			t.Errorf("after it was brought anew: %+v", damage)
		}
	}
	if sent := p.reg.Sent(); p.complete(t) != [2]bool{true, true} || sent != 0 {
		t.Errorf("complete: %v, %d bytes of the registry, want none", p.complete(t), sent)
	}
}

// TestDamagedBlobIsMended: a blob that is not what its digest says is deleted, and what is
// unpacked of it stays: it may well be intact, and there may be no registry.
func TestDamagedBlobIsMended(t *testing.T) {
	t.Parallel()
	p := newTwins(t, options{})
	p.spoil(t, p.base)
	damage := p.verify(t, 0)
	if damage.Snapshot != "" || len(damage.Blobs) != 1 || damage.Blobs[0] != p.base {
		t.Fatalf("damage = %+v, want blob %s", damage, p.base)
	}
	if err := p.driver.Discard(t.Context(), damage); err != nil {
		t.Fatal(err)
	}
	if p.has(t, p.base) || p.complete(t) != [2]bool{true, true} {
		t.Errorf("the blob is there: %v, complete: %v", p.has(t, p.base), p.complete(t))
	}
	if damage := p.verify(t, 0); damage.Found() {
		t.Errorf("after that: %+v", damage)
	}
}

// TestLostFilesWithoutBlobs: where blobs are not kept, files that are gone are noticed, and
// the layer is fetched again.
func TestLostFilesWithoutBlobs(t *testing.T) {
	t.Parallel()
	p := newTwins(t, options{discardLayers: true})
	if err := p.client.ContentStore().Delete(t.Context(), p.base); err != nil {
		t.Fatal(err)
	}
	if damage := p.verify(t, 0); damage.Found() {
		t.Fatalf("intact: %+v", damage)
	}
	if err := os.Remove(p.unpackedFile(t)); err != nil {
		t.Fatal(err)
	}
	damage := p.verify(t, 0)
	if damage.Snapshot == "" {
		t.Fatalf("damage = %+v", damage)
	}
	if err := p.driver.Discard(t.Context(), damage); err != nil {
		t.Fatal(err)
	}
	p.bring(t, 0)
	p.bring(t, 1)
	if p.unpackedFile(t) == "" || p.complete(t) != [2]bool{true, true} {
		t.Error("not brought anew")
	}
}

// TestDamagedWhileUsed: nothing is taken away under a container, of any image.
func TestDamagedWhileUsed(t *testing.T) {
	t.Parallel()
	p := newTwins(t, options{})
	if err := os.Truncate(p.unpackedFile(t), 0); err != nil {
		t.Fatal(err)
	}
	image, err := p.client.GetImage(t.Context(), p.requests[0].Name.String())
	if err != nil {
		t.Fatal(err)
	}
	diffs, err := image.RootFS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.client.LeasesService().Create(t.Context(), leases.WithRandomID())
	if err != nil {
		t.Fatal(err)
	}
	ctx, sn := leases.WithLease(t.Context(), l.ID), p.client.SnapshotService("overlayfs")
	if _, err := sn.Prepare(ctx, "of a container", identity.ChainID(diffs).String()); err != nil {
		t.Fatal(err)
	}
	damage := p.verify(t, 1)
	if err := p.driver.Discard(t.Context(), damage); runtime.ReasonOf(err) != runtime.ImageDamaged || !runtime.Transient(err) {
		t.Errorf("discarding what a container uses: %v", err)
	}
	if p.complete(t) != [2]bool{true, true} {
		t.Errorf("complete: %v, want all to be as it was", p.complete(t))
	}
	if err := sn.Remove(t.Context(), "of a container"); err != nil {
		t.Fatal(err)
	}
	if err := p.driver.Discard(t.Context(), damage); err != nil {
		t.Error(err)
	}
}
