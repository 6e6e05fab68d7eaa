package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/containerd"
	"edgecache.dev/edgeagent/runtime/cri"
	"edgecache.dev/edgeagent/runtime/layout"
	"edgecache.dev/internal/pause"
)

// keepPartial is how long half of an image is kept that nobody goes on with: a box that is
// switched off over a long weekend does not begin anew.
const keepPartial = 7 * 24 * time.Hour

// driverRetry is how often a directory is tried again that the disk does not give now.
const driverRetry = time.Minute

// awaitDriver makes the driver. A disk that is read-only, full or failing does not end the
// agent, which goes on answering with what it remembers, and tells why by way of fails: nil when
// the context ends before that has changed. What is wrong with the settings is an error.
func awaitDriver(ctx context.Context, fails func(error), try func() (runtime.Driver, error)) (runtime.Driver, error) {
	said := ""
	for {
		driver, err := try()
		if err == nil || !ofDisk(err) {
			return driver, err
		}
		fails(err)
		if said != err.Error() {
			klog.FromContext(ctx).Error(err, "The images cannot be worked with, trying again", "every", driverRetry)
			said = err.Error()
		}
		if !pause.For(ctx, driverRetry) {
			return nil, nil //nolint:nilnil // told to stop
		}
	}
}

// ofDisk says whether an error is a disk's, and may pass.
func ofDisk(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && slices.Contains([]syscall.Errno{syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO}, errno)
}

func newDriver(c *config, source *fetch.Registry, login logins) (runtime.Driver, error) {
	options := fetch.Options{Parallel: c.BlobsAtOnce, Limiter: c.limiter()}
	switch c.Runtime {
	case runtimeContainerd:
		return containerd.New(containerd.Options{
			Address: c.RuntimeEndpoint, Namespace: c.Namespace, Snapshotter: c.Snapshotter, Source: source, Fetch: options, LeaseTTL: keepPartial,
		})
	case runtimeCRI:
		return cri.New(cri.Options{Address: c.RuntimeEndpoint, Credentials: login, LeaseTTL: keepPartial, CRIOConfigDir: c.CRIOConfigDir})
	case runtimeLayout:
		return layout.New(layout.Options{
			Dir: cmp.Or(c.LayoutDir, filepath.Join(c.StateDir, "images")), Source: source, Fetch: options,
			Damaged: func(err error) { klog.Background().Error(err, "The image layout was damaged and is rebuilt") },
		})
	}
	return nil, fmt.Errorf("runtime %q is not known", c.Runtime)
}
