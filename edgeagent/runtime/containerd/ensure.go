package containerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/lease"
)

// Ensure fetches, unpacks and names. When all of that is done already it only looks.
func (d *Driver) Ensure(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	if err := r.Check(); err != nil {
		return err
	}
	leave, err := d.pulls.Enter(ctx, r.Digest)
	if err != nil {
		return err
	}
	defer leave()
	done, err := d.isDone(ctx, r)
	switch {
	case err != nil:
	case done:
		_, err = d.leases.Drop(ctx, r.Digest) // of an agent that was killed after it named the image
	default:
		if err = d.refuseLazy(ctx, r); err == nil {
			err = d.bring(ctx, r, progress)
		}
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("ensuring %s: %w", r.Name, cause)
	}
	return err
}

// isDone says whether a request is fulfilled: names, pin, content and snapshots.
func (d *Driver) isDone(ctx context.Context, r runtime.Request) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, name := range runtime.NamesOf(r.Name, r.Digest) {
		have, err := d.client.ImageService().Get(ctx, name.String())
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, runtime.Failed("looking for image "+name.String(), err)
		}
		if _, stale := changes(have, record(name, have.Target, r.Pin)); have.Target.Digest != r.Digest || len(stale) > 0 {
			return false, nil
		}
	}
	held, err := d.held(ctx, r.Digest, d.stat)
	if err != nil {
		return false, runtime.Failed("looking at image "+r.Name.String(), err)
	}
	return held.Complete, nil
}

// refuseLazy fails for an image whose snapshots are filled over the network: it is there,
// and nothing that is brought makes it safe.
func (d *Driver) refuseLazy(ctx context.Context, r runtime.Request) error {
	held, err := d.held(ctx, r.Digest, d.stat)
	if err != nil {
		return runtime.Failed("looking at image "+r.Name.String(), err)
	}
	if !held.Lazy {
		return nil
	}
	return &runtime.Error{Reason: runtime.LazyContent, Err: fmt.Errorf(
		"image %s was pulled by a lazy snapshotter, which fetches files when they are read: it does not start without the registry; remove it from the node with crictl rmi, and it is brought whole", r.Name)}
}

// bring does what isDone found missing, under the lease of the digest. The lease stays
// when it fails, so that the next attempt goes on from there.
func (d *Driver) bring(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	l, err := d.leases.Take(ctx, r.Digest)
	if err != nil {
		return runtime.Failed("ensuring "+r.Name.String(), err)
	}
	p := fetch.Puller{
		Source: d.options.Source, Store: lease.Store{Store: d.client.ContentStore(), Lease: l},
		Options: d.options.Fetch, Layers: d.missingLayers, Collect: d.collectGarbage, Admit: admit(r),
	}
	img, err := p.Image(ctx, fetch.Want{Name: r.Name, Digest: r.Digest, Platform: d.options.Platform}, progress)
	if err != nil {
		return err
	}
	leased, done, err := l.Use(ctx)
	if err != nil {
		return runtime.Failed("ensuring "+r.Name.String(), err)
	}
	defer done()
	if err := d.unpack(leased, img); err != nil {
		return err
	}
	if err := d.refuseLazy(ctx, r); err != nil {
		return err
	}
	for _, name := range runtime.NamesOf(r.Name, r.Digest) {
		if err := d.setRecord(ctx, record(name, img.Target, r.Pin)); err != nil {
			return err
		}
	}
	// Also when the call was cancelled meanwhile, as it is when the agent sees the names
	// before the call has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := l.Release(ctx); err != nil {
		return runtime.Failed("ensuring "+r.Name.String(), err)
	}
	return nil
}

// unpack makes the snapshots of an image and syncs them to disk.
func (d *Driver) unpack(ctx context.Context, img fetch.Image) error {
	leave, err := d.unpacking.Enter(ctx, struct{}{})
	if err != nil {
		return err
	}
	defer leave()
	i := client.NewImageWithPlatform(d.client, images.Image{Name: img.Target.Digest.String(), Target: img.Target}, platforms.Only(d.options.Platform))
	sn, err := d.snapshotterName(ctx)
	if err != nil {
		return err
	}
	others, err := d.unpackedBefore(ctx, img)
	if err != nil {
		return err
	}
	if others {
		return d.sync(ctx)
	}
	missing, _ := d.missingLayers(ctx, img) // unpacking says what is wrong
	begun := time.Now()
	err = i.Unpack(ctx, sn, client.WithUnpackApplyOpts(diff.WithSyncFs(true)))
	if err == nil {
		d.unpacked(missing, time.Since(begun))
		return nil
	}
	doing := "unpacking " + img.Target.Digest.String()
	if away(err) == nil && context.Cause(ctx) == nil {
		err = errors.Join(err, d.deleteDamaged(ctx, img))
	}
	return runtime.Failed(doing, err)
}

// deleteDamaged looks for the stored blobs of an image that are not what they should be,
// after unpacking failed, and deletes them, so that the next attempt fetches them.
func (d *Driver) deleteDamaged(ctx context.Context, img fetch.Image) error {
	var deleted []error
	store := d.client.ContentStore()
	for _, blob := range append(img.Blobs(), img.Target, img.Manifest) {
		intact, err := fetch.Intact(ctx, store, blob.Digest)
		if err == nil && !intact {
			err = ignoreNotFound(store.Delete(ctx, blob.Digest))
			deleted = append(deleted, fmt.Errorf("stored blob %s is damaged and was deleted", blob.Digest))
		}
		if err != nil {
			return err
		}
	}
	if len(deleted) == 0 {
		return nil
	}
	return errors.Join(append(deleted, d.collectGarbage(ctx))...)
}

// collectGarbage waits for containerd to remove what was deleted. Before that, fetching a
// deleted blob would find the old file.
func (d *Driver) collectGarbage(ctx context.Context) error {
	l, err := d.leases.Manager.Create(ctx, leases.WithRandomID(), leases.WithExpiration(d.options.LeaseTTL))
	if err != nil {
		return err
	}
	return d.leases.Manager.Delete(ctx, l, leases.SynchronousDelete)
}
