package cri

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/internal/pause"
)

const (
	// reloadPatience bounds the wait for CRI-O to take a reload up.
	reloadPatience = 10 * time.Second
	reloadPoll     = 50 * time.Millisecond
	// unpinPatience bounds the wait until what was let go is no longer pinned: others may
	// have CRI-O pin it, too.
	unpinPatience = 2 * time.Second
)

// pinner pins images of CRI-O by a file among its configuration. It is the only writer of
// that file.
type pinner struct {
	mu   sync.Mutex // one change at a time
	file dropIn
}

// canPin says whether images can be pinned: on CRI-O, where its folder is there and its
// process can be told to read it.
func (d *Driver) canPin(ctx context.Context, name string) bool {
	if name != nameCRIO || d.pins.file.dir == "" {
		return false
	}
	_, err := os.Stat(d.pins.file.dir)
	if err == nil {
		_, err = processOf(ctx, d.options.Address)
	}
	if err != nil {
		klog.FromContext(ctx).V(2).Info("CRI-O's images cannot be pinned", "err", err)
	}
	return err == nil
}

// remark changes marks, on a runtime that can pin; elsewhere it does nothing.
func (d *Driver) remark(ctx context.Context, edit func(marks)) error {
	ask, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := d.runtime.Version(ask, &api.VersionRequest{})
	if err != nil {
		return classify("asking the runtime for its version", err)
	}
	if !d.canPin(ask, v.GetRuntimeName()) {
		return nil
	}
	d.pins.mu.Lock()
	defer d.pins.mu.Unlock()
	all, err := d.list(ctx)
	if err != nil {
		return err
	}
	before, err := d.pins.file.read()
	if err != nil {
		return runtime.Failed("pinning images", err)
	}
	after := maps.Clone(before)
	edit(after)
	maps.DeleteFunc(after, func(name imageref.Reference, _ mark) bool { return !listed(all, name) })
	if !maps.Equal(before, after) {
		if err := d.pins.file.write(after); err != nil {
			return runtime.Failed("pinning images", err)
		}
	}
	if slices.Equal(before.pinned(), after.pinned()) && after.honoured(all) {
		return nil
	}
	return d.reload(ctx, before, after)
}

// reload has CRI-O read its configuration anew, and waits until it pins what it should.
func (d *Driver) reload(ctx context.Context, before, want marks) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	pid, err := processOf(ctx, d.options.Address)
	if err == nil {
		err = hangUp(pid)
	}
	if err != nil {
		return runtime.Failed("having CRI-O read its configuration", err)
	}
	for {
		all, err := d.list(ctx)
		if err == nil && want.honoured(all) && (!want.lingers(before, all) || time.Since(began) > unpinPatience) {
			return nil
		}
		if !pause.For(ctx, reloadPoll) {
			return runtime.Failed("pinning images", errors.Join(err, fmt.Errorf(
				"CRI-O does not take over %s: it must read this folder (--config-dir), and no later file may set pinned_images", d.pins.file.path())))
		}
	}
}

// honoured says whether the runtime pins the images that are to be pinned by a tag. By digest
// CRI-O pins only what was pulled by digest, which CRI does not tell.
func (m marks) honoured(all []image) bool {
	for _, name := range m.pinned() {
		for _, img := range all {
			if name.Tag() != "" && slices.Contains(img.names, name) && !img.pinned {
				return false
			}
		}
	}
	return true
}

// lingers says whether the runtime still pins what was to be pinned before and is not now.
func (m marks) lingers(before marks, all []image) bool {
	now := m.pinned()
	for _, name := range before.pinned() {
		for _, img := range all {
			free := !slices.ContainsFunc(now, func(n imageref.Reference) bool { return slices.Contains(img.names, n) })
			if free && img.pinned && slices.Contains(img.names, name) {
				return true
			}
		}
	}
	return false
}

func listed(all []image, name imageref.Reference) bool {
	return slices.ContainsFunc(all, func(img image) bool { return slices.Contains(img.names, name) })
}

// Pin pins names that are there, managed or not, where that can be done.
func (d *Driver) Pin(ctx context.Context, names ...imageref.Reference) error {
	return d.remark(ctx, func(m marks) {
		for _, name := range names {
			m[name] = mark{pinned: true, managed: m[name].managed}
		}
	})
}

// Release forgets names, where they can be remembered.
func (d *Driver) Release(ctx context.Context, names ...imageref.Reference) error {
	return d.remark(ctx, func(m marks) {
		for _, name := range names {
			delete(m, name)
		}
	})
}

// keep marks the names of a request, as it wants them.
func (d *Driver) keep(ctx context.Context, r runtime.Request) error {
	return d.remark(ctx, func(m marks) {
		for _, name := range runtime.NamesOf(r.Name, r.Digest) {
			m[name] = mark{pinned: r.Pin, managed: true}
		}
	})
}
