package cri

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// sync has images that were not there before written to disk, before they are reported:
// runtimes do not sync what they unpack. One call covers the whole file system, and costs
// nothing where nothing is waiting.
func (d *Driver) sync(ctx context.Context, all []image) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, fresh := make(map[string]bool, len(all)), false
	for i := range all {
		now[all[i].id] = true
		fresh = fresh || !d.synced[all[i].id]
	}
	if fresh {
		if err := d.syncRoot(ctx); err != nil {
			if !d.unsynced {
				klog.FromContext(ctx).Error(err, "What the runtime pulls is not synced to disk: a power cut may damage it")
			}
			d.unsynced = true
			return
		}
		d.unsynced = false
	}
	d.synced = now
}

// syncRoot syncs the file system of the runtime's images.
func (d *Driver) syncRoot(ctx context.Context) error {
	fs, err := d.images.ImageFsInfo(ctx, &api.ImageFsInfoRequest{})
	if err != nil {
		return classify("asking the runtime for its image file system", err)
	}
	for _, f := range fs.GetImageFilesystems() {
		if err := syncFS(f.GetFsId().GetMountpoint()); err != nil {
			return err
		}
	}
	return nil
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing the runtime's images: %w", err)
	}
	if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
		return fmt.Errorf("syncing the runtime's images in %s: %w", dir, err)
	}
	return nil
}

// isUnsynced says whether the last images could not be synced.
func (d *Driver) isUnsynced() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unsynced
}
