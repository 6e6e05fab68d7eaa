package containerd

import (
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
)

// finder gives a snapshot by its name, and whether it is there.
type finder func(ctx context.Context, name string) (snapshots.Info, bool, error)

// stat finds snapshots by asking for each.
func (d *Driver) stat(ctx context.Context, name string) (snapshots.Info, bool, error) {
	sn, err := d.snapshotterName(ctx)
	if err != nil {
		return snapshots.Info{}, false, err
	}
	info, err := d.client.SnapshotService(sn).Stat(ctx, name)
	if err != nil {
		return snapshots.Info{}, false, ignoreNotFound(err)
	}
	return info, true, nil
}

// committed lists all snapshots of layers in one call and finds among them.
func (d *Driver) committed(ctx context.Context) (finder, error) {
	sn, err := d.snapshotterName(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]snapshots.Info{}
	err = d.client.SnapshotService(sn).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindCommitted {
			all[info.Name] = info
		}
		return nil
	})
	find := func(_ context.Context, name string) (snapshots.Info, bool, error) {
		info, ok := all[name]
		return info, ok, nil
	}
	return find, ignoreNotFound(err)
}

// complete says whether a container could start: the documents are there, and every layer
// is unpacked, by a snapshotter that has all of it. Layers that are unpacked are not needed
// as blobs: a node may throw them away (discard_unpacked_layers).
func (d *Driver) complete(ctx context.Context, f facts, find finder) (complete, lazy bool, err error) {
	if f.chain == "" {
		return false, false, nil
	}
	unpacked, lazy, err := stacked(ctx, f.chain, find)
	if err != nil || !unpacked || lazy {
		return false, lazy, err
	}
	for _, doc := range []ocispec.Descriptor{f.image.Target, f.image.Manifest, f.image.Config} {
		if _, err := d.client.ContentStore().Info(ctx, doc.Digest); err != nil {
			return false, false, ignoreNotFound(err)
		}
	}
	return true, false, nil
}

// stacked says whether a snapshot and all below it are there, and whether any of them is
// filled over the network.
func stacked(ctx context.Context, name string, find finder) (there, lazy bool, err error) {
	for range fetch.MaxLayers {
		info, ok, err := find(ctx, name)
		if err != nil || !ok || info.Kind != snapshots.KindCommitted {
			return false, lazy, err
		}
		lazy = lazy || remote(info.Labels)
		if name = info.Parent; name == "" {
			return true, lazy, nil
		}
	}
	return false, lazy, nil
}

// remote says whether labels are those of a snapshot whose files come over the network:
// stargz, SOCI and overlaybd have the first, nydus has its own.
func remote(labels map[string]string) bool {
	for key := range labels {
		if key == "containerd.io/snapshot/remote" || strings.HasPrefix(key, "containerd.io/snapshot/nydus-") {
			return true
		}
	}
	return false
}

// hasSnapshot says whether a layer is unpacked.
func (d *Driver) hasSnapshot(ctx context.Context, chain string) (bool, error) {
	info, ok, err := d.stat(ctx, chain)
	return ok && info.Kind == snapshots.KindCommitted, err
}
