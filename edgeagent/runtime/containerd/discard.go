package containerd

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/snapshots"

	"edgecache.dev/edgeagent/runtime"
)

// Discard deletes damaged blobs, and a damaged snapshot with all that is unpacked on it:
// containerd never looks at a committed snapshot again, so that pulling the image anew would
// not mend it. Blobs that are intact stay, and what is unpacked next comes from them.
func (d *Driver) Discard(ctx context.Context, damage runtime.Damage) error {
	leave, err := d.unpacking.Enter(ctx, struct{}{})
	if err != nil {
		return err
	}
	defer leave()
	doing := "discarding what is damaged of " + damage.Digest.String()
	if damage.Snapshot != "" {
		if err := d.removeSnapshots(ctx, damage); err != nil {
			return runtime.Failed(doing, err)
		}
	}
	for _, blob := range damage.Blobs {
		if err := d.client.ContentStore().Delete(ctx, blob); ignoreNotFound(err) != nil {
			return runtime.Failed(doing, err)
		}
	}
	if err := d.collectGarbage(ctx); err != nil {
		return runtime.Failed(doing, err)
	}
	return nil
}

// removeSnapshots removes a snapshot and all above it, the topmost first.
func (d *Driver) removeSnapshots(ctx context.Context, damage runtime.Damage) error {
	name, err := d.snapshotterName(ctx)
	if err != nil {
		return err
	}
	sn, children, used := d.client.SnapshotService(name), map[string][]string{}, map[string]bool{}
	err = sn.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		children[info.Parent] = append(children[info.Parent], info.Name)
		used[info.Parent] = used[info.Parent] || info.Kind != snapshots.KindCommitted
		return nil
	})
	if err != nil {
		return err
	}
	stack := above(damage.Snapshot, children)
	for _, s := range stack {
		if used[s] {
			return &runtime.Error{Reason: runtime.ImageDamaged, Err: fmt.Errorf(
				"containers use what is damaged: delete the pods of the image, and it is brought anew (%s)", damage.What)}
		}
	}
	for _, s := range stack {
		if err := sn.Remove(ctx, s); ignoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// above gives a snapshot and all that are unpacked on it, each before what it stands on.
func above(name string, children map[string][]string) []string {
	var out []string
	for _, child := range children[name] {
		out = append(out, above(child, children)...)
	}
	return append(out, name)
}
