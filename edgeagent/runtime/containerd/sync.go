package containerd

import (
	"bytes"
	"context"
	"errors"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

// unpackedBefore says whether the topmost layer is unpacked already, by whomever. Where it is
// not, unpacking it syncs the whole file system, the layers below it included.
func (d *Driver) unpackedBefore(ctx context.Context, img fetch.Image) (bool, error) {
	diffs, err := images.RootFS(ctx, d.client.ContentStore(), img.Config)
	if err != nil {
		return false, runtime.Failed("reading config "+img.Config.Digest.String(), err)
	}
	if len(diffs) != len(img.Layers) {
		return false, nil // unpacking will say what is wrong
	}
	has, err := d.hasSnapshot(ctx, identity.ChainID(diffs).String())
	if err != nil {
		return false, runtime.Failed("looking for the snapshot of "+img.Target.Digest.String(), err)
	}
	return has, nil
}

// emptyLayer is a tar without files: two blocks of zeros.
var emptyLayer = make([]byte, 1024)

// sync has containerd write to disk what others unpacked without: the kubelet's pulls are
// not synced unless containerd is set to (image_pull_with_sync_fs). It unpacks a layer
// without files, with sync: that syncs the whole file system, and needs no access to it.
// The caller's context has a lease, which holds the layer meanwhile.
func (d *Driver) sync(ctx context.Context) error {
	layer := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(emptyLayer), Size: int64(len(emptyLayer)),
	}
	ref := "edgecache-empty-layer"
	if err := content.WriteBlob(ctx, d.client.ContentStore(), ref, bytes.NewReader(emptyLayer), layer); err != nil {
		return runtime.Failed("syncing unpacked layers to disk", err)
	}
	return d.withSnapshot(ctx, "sync", func(sn snapshots.Snapshotter, key string) error {
		mounts, err := sn.Prepare(ctx, key, "")
		if err != nil {
			return runtime.Failed("syncing unpacked layers to disk", err)
		}
		if _, err := d.client.DiffService().Apply(ctx, layer, mounts, diff.WithSyncFs(true)); err != nil {
			return runtime.Failed("syncing unpacked layers to disk", err)
		}
		return nil
	})
}

// withSnapshot lends the name of a snapshot for the time of a call, and removes what was
// made under it, also what an agent left that was killed.
func (d *Driver) withSnapshot(ctx context.Context, what string, do func(sn snapshots.Snapshotter, key string) error) error {
	name, err := d.snapshotterName(ctx)
	if err != nil {
		return err
	}
	sn, key := d.client.SnapshotService(name), "edgecache-"+what
	remove := func(ctx context.Context) error {
		err := sn.Remove(ctx, key)
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	if err := remove(ctx); err != nil {
		return runtime.Failed("removing left-over snapshot "+key, err)
	}
	err = do(sn, key)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	return errors.Join(err, remove(after))
}
