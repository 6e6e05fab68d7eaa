package realtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/test/lab/omit"
)

// lazily is a snapshotter that behaves as stargz and its like do: asked to prepare a layer of a
// pull it says that the layer is there, and containerd does not fetch it. Its files are those
// of an empty directory here; theirs come over the network when they are read.
type lazily struct{ snapshots.Snapshotter }

// Prepare commits the layer that a pull names at once.
func (l lazily) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) (mounts []mount.Mount, err error) {
	var asked snapshots.Info
	for _, o := range opts {
		if err := o(&asked); err != nil {
			return nil, err
		}
	}
	mounts, err = l.Snapshotter.Prepare(ctx, key, parent, opts...)
	target := asked.Labels["containerd.io/snapshot.ref"]
	if err != nil || target == "" {
		return mounts, err
	}
	asked.Labels["containerd.io/snapshot/remote"] = "remote snapshot"
	if err := l.Commit(ctx, target, key, snapshots.WithLabels(asked.Labels)); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("snapshot %s: %w", target, errdefs.ErrAlreadyExists)
}

// serveLazily runs the snapshotter and gives its socket.
func serveLazily(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	sn, err := overlay.NewSnapshotter(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(lazily{sn}))
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		for _, err := range []error{<-done, sn.Close(), os.RemoveAll(dir)} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return socket
}

// TestLazilyPulled: an image of which a snapshotter has nothing but promises is there for the
// kubelet and not for the agent, which says why. Removed, it is brought whole, by the same
// snapshotter.
func TestLazilyPulled(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		omit.Test(t, "a snapshotter needs root")
	}
	w := newWorld(t, options{
		snapshotter: "lazy",
		images:      "disable_snapshot_annotations = false\nuse_local_image_pull = true",
		more:        fmt.Sprintf("[proxy_plugins.lazy]\ntype = \"snapshot\"\naddress = %q\n", serveLazily(t)),
	})
	d := w.containerd(t)
	if _, err := w.cri().PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: w.request.Name.String()}}); err != nil {
		t.Fatal(err)
	}
	if w.has(t, w.layer) {
		t.Fatal("the layer was fetched: nothing lazy about this pull")
	}
	if h := w.inventory(t, d)[w.request.Name]; h.Complete || !h.Lazy {
		t.Errorf("%+v, want it lazy and not complete", h)
	}
	err := d.Ensure(t.Context(), w.request, nil)
	if runtime.ReasonOf(err) != runtime.LazyContent || runtime.Transient(err) {
		t.Errorf("Ensure: %v, want a permanent LazyContent", err)
	}
	if w.record(t, w.request.Name.WithDigest(w.request.Digest).String()) != nil && w.status(t, w.request.Name.String()).GetPinned() {
		t.Error("what is not there was named and pinned")
	}
	if _, err := w.cri().RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: w.request.Name.String()}}); err != nil {
		t.Fatal(err)
	}
	w.collect(t)
	w.ensure(t, d)
	w.held(t, d)
	if !w.has(t, w.layer) {
		t.Error("the layer is not there")
	}
}

func (w *world) inventory(t *testing.T, d runtime.Driver) runtime.Inventory {
	t.Helper()
	inv, err := d.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}
