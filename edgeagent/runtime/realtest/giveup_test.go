package realtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

// left says what containerd has of pulls that have no name.
func (d *daemon) left(t *testing.T) (pullLeases, ingests int) {
	t.Helper()
	found, err := d.client.LeasesService().List(t.Context(), `labels."edgecache.dev/pull"`)
	if err != nil {
		t.Fatal(err)
	}
	statuses, err := d.client.ContentStore().ListStatuses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(found), len(statuses)
}

// TestRemovingGivesUpTheHalf: what a cancelled pull left goes with the removal of its
// digest, and not before.
func TestRemovingGivesUpTheHalf(t *testing.T) {
	t.Parallel()
	for name, driver := range map[string]func(*testing.T, *world) runtime.Driver{
		"containerd": func(t *testing.T, w *world) runtime.Driver { return w.containerd(t) },
		"CRI":        func(t *testing.T, w *world) runtime.Driver { return w.overCRI(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			d := driver(t, w)
			w.reg.Set(fetchtest.Faults{CutAfter: 4_000_000, Stall: true})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := w.ensured(ctx, d)
			w.written(t, 4_000_000, copyBuffer)
			cancel()
			if err := <-done; err == nil {
				t.Fatal("the cancelled pull succeeded")
			}
			if held, ingests := w.left(t); held == 0 || ingests == 0 {
				t.Fatalf("%d leases, %d ingests after the cancelled pull, want the half to be kept", held, ingests)
			}
			if err := d.Remove(t.Context(), w.request.Name.WithDigest(w.request.Digest)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the half is gone", func() bool {
				held, ingests := w.left(t)
				return held == 0 && ingests == 0 && !w.has(t, w.request.Digest)
			})
		})
	}
}

// TestLeaseOfAKilledAgent: one that an agent left when it was killed after it named the
// image goes when the image is ensured or removed.
func TestLeaseOfAKilledAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	w.ensure(t, d)
	w.lease(t)
	w.ensure(t, d)
	if held, _ := w.left(t); held != 0 {
		t.Errorf("%d leases after ensuring the image again", held)
	}
	w.lease(t)
	if err := d.Remove(t.Context(), runtime.NamesOf(w.request.Name, w.request.Digest)...); err != nil {
		t.Fatal(err)
	}
	if held, _ := w.left(t); held != 0 || w.has(t, w.layer) || w.has(t, w.request.Digest) {
		t.Errorf("%d leases after the removal, content there %v", held, w.has(t, w.layer))
	}
}

func (w *world) ensure(t *testing.T, d runtime.Driver) {
	t.Helper()
	if err := d.Ensure(t.Context(), w.request, nil); err != nil {
		t.Fatal(err)
	}
}

// lease makes the lease of a pull by hand.
func (w *world) lease(t *testing.T) {
	t.Helper()
	service := w.client.LeasesService()
	l, err := service.Create(t.Context(), leases.WithRandomID(), leases.WithExpiration(time.Hour),
		leases.WithLabels(map[string]string{"edgecache.dev/pull": w.request.Digest.String()}))
	if err != nil {
		t.Fatal(err)
	}
	for _, dg := range []digest.Digest{w.request.Digest, w.layer} {
		if err := service.AddResource(t.Context(), l, leases.Resource{ID: dg.String(), Type: "content"}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedDocumentsComeBack: an index, a manifest and a config whose files were damaged
// while half of the image was there are fetched anew, not found again.
func TestDamagedDocumentsComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	for i, which := range []string{"index", "manifest", "config"} {
		img := fetchtest.Image(t, node(), fetchtest.Layer(t, int64(i), 1000))
		name := which + ":v1"
		request := runtime.Request{Name: w.reg.Ref(t, name), Digest: w.reg.Push(t, name, fetchtest.Index(t, img))}
		manifest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		w.reg.Set(fetchtest.Faults{Status: 404, Only: "/blobs/" + fetchtest.Blobs(t, img)[1].String()})
		if err := d.Ensure(t.Context(), request, nil); err == nil {
			t.Fatal("Ensure succeeded without a layer")
		}
		w.reg.Set(fetchtest.Faults{})
		w.spoil(t, map[string]digest.Digest{
			"index": request.Digest, "manifest": digest.Digest(manifest.String()), "config": fetchtest.ConfigDigest(t, img),
		}[which])
		if err := d.Ensure(t.Context(), request, nil); err == nil {
			t.Errorf("Ensure took a damaged %s", which)
		}
		if err := d.Ensure(t.Context(), request, nil); err != nil {
			t.Errorf("after a damaged %s: %v", which, err)
		}
	}
}

// spoil changes a blob's file.
func (d *daemon) spoil(t *testing.T, dg digest.Digest) {
	t.Helper()
	path := filepath.Join(d.dir, "root", "io.containerd.content.v1.content", "blobs", "sha256", dg.Encoded())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[0] = '!' // no JSON any more
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
