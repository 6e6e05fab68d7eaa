package containerd

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
)

// Labels of image records. The first two are CRI's (internal/cri/labels).
const (
	labelCRI     = "io.cri-containerd.image"
	labelPinned  = "io.cri-containerd.pinned"
	labelManaged = "edgecache.dev/managed"

	managedByCRI = "managed"
	pinned       = "pinned"
	yes          = "true"
)

// record is how an image record of ours looks. An empty label is one that is not there.
func record(name imageref.Reference, target ocispec.Descriptor, pin bool) images.Image {
	r := images.Image{
		Name:   name.String(),
		Target: ocispec.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size},
		Labels: map[string]string{labelCRI: managedByCRI, labelManaged: yes, labelPinned: ""},
	}
	if pin {
		r.Labels[labelPinned] = pinned
	}
	return r
}

// changes gives what an update must write to make a record as wanted: the fields, none if
// it is so already. Labels of others stay.
func changes(have, want images.Image) (update images.Image, fields []string) {
	if have.Target.Digest != want.Target.Digest {
		fields = append(fields, "target")
	}
	for key, value := range want.Labels {
		if have.Labels[key] != value {
			fields = append(fields, "labels."+key)
		}
	}
	slices.Sort(fields)
	return want, fields
}

// setRecord makes or changes an image record.
func (d *Driver) setRecord(ctx context.Context, want images.Image) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	service := d.client.ImageService()
	_, err := service.Create(ctx, created(want))
	if errdefs.IsAlreadyExists(err) {
		var have images.Image
		if have, err = service.Get(ctx, want.Name); err == nil {
			if update, fields := changes(have, want); len(fields) > 0 {
				_, err = service.Update(ctx, update, fields...)
			}
		}
	}
	if err != nil {
		return runtime.Failed("naming image "+want.Name, err)
	}
	return nil
}

// created leaves out the labels that are not to be there.
func created(r images.Image) images.Image {
	labels := map[string]string{}
	for key, value := range r.Labels {
		if value != "" {
			labels[key] = value
		}
	}
	r.Labels = labels
	return r
}

// Pin sets CRI's label on records.
func (d *Driver) Pin(ctx context.Context, names ...imageref.Reference) error {
	return d.relabel(ctx, "pinning", names, map[string]string{labelPinned: pinned})
}

// Release takes our label and the pin off records.
func (d *Driver) Release(ctx context.Context, names ...imageref.Reference) error {
	return d.relabel(ctx, "releasing", names, map[string]string{labelManaged: "", labelPinned: ""})
}

// relabel sets labels of records, or takes off those that are empty.
func (d *Driver) relabel(ctx context.Context, doing string, names []imageref.Reference, labels map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var errs []error
	for _, name := range names {
		if err := d.setLabels(ctx, name.String(), labels); err != nil {
			errs = append(errs, runtime.Failed(doing+" image "+name.String(), err))
		}
	}
	return errors.Join(errs...)
}

func (d *Driver) setLabels(ctx context.Context, name string, labels map[string]string) error {
	have, err := d.client.ImageService().Get(ctx, name)
	if err != nil {
		return ignoreNotFound(err)
	}
	update, fields := changes(have, images.Image{Name: name, Target: have.Target, Labels: labels})
	if len(fields) == 0 {
		return nil
	}
	_, err = d.client.ImageService().Update(ctx, update, fields...)
	return ignoreNotFound(err)
}

// named is an image record with what its digest means.
type named struct {
	name, digest string
	id           string // "" when unknown
}

// Remove deletes records, those of CRI that are left without a name, and leases that a
// killed or cancelled pull left. The last deletion waits for the garbage collector, so that
// the disk is free when it returns.
func (d *Driver) Remove(ctx context.Context, names ...imageref.Reference) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	all, err := d.named(ctx)
	if err != nil {
		return runtime.Failed("removing images", err)
	}
	remove, orphans := split(all, names)
	var errs []error
	dropped, err := d.dropLeases(ctx, nameless(all, remove, names))
	if err != nil {
		errs = append(errs, runtime.Failed("removing images", err))
	}
	list := slices.Concat(remove, orphans)
	for i, r := range list {
		var opts []images.DeleteOpt
		if i == len(list)-1 {
			opts = append(opts, images.SynchronousDelete())
		}
		if err := d.client.ImageService().Delete(ctx, r.name, opts...); ignoreNotFound(err) != nil {
			errs = append(errs, runtime.Failed("removing image "+r.name, err))
		}
	}
	if dropped && len(list) == 0 {
		errs = append(errs, d.collectGarbage(ctx))
	}
	return errors.Join(errs...)
}

// nameless gives the digests that are meant by the names to remove and that no other name
// is left for.
func nameless(all, remove []named, names []imageref.Reference) []digest.Digest {
	meant, stay := map[digest.Digest]bool{}, map[string]bool{}
	for _, n := range names {
		meant[n.Digest()] = n.Digest() != ""
	}
	for _, r := range remove {
		meant[digest.Digest(r.digest)] = true
	}
	for _, r := range all {
		stay[r.digest] = stay[r.digest] || !isID(r.name) && !slices.Contains(remove, r)
	}
	maps.DeleteFunc(meant, func(dg digest.Digest, is bool) bool { return !is || stay[dg.String()] })
	return slices.Sorted(maps.Keys(meant))
}

// dropLeases lets go of what pulls hold that are not running. It says whether there was
// anything.
func (d *Driver) dropLeases(ctx context.Context, digests []digest.Digest) (dropped bool, err error) {
	var errs []error
	for _, dg := range digests {
		leave, ok := d.pulls.Try(dg)
		if !ok {
			continue
		}
		did, err := d.leases.Drop(ctx, dg)
		leave()
		dropped, errs = dropped || did, append(errs, err)
	}
	return dropped, errors.Join(errs...)
}

// named lists all image records.
func (d *Driver) named(ctx context.Context) ([]named, error) {
	records, err := d.client.ImageService().List(ctx)
	if err != nil {
		return nil, err
	}
	var all []named
	for _, r := range records {
		n := named{name: r.Name, digest: r.Target.Digest.String()}
		f, err := d.known(ctx, r.Target.Digest)
		if err := away(err); err != nil {
			return nil, err
		}
		if err == nil {
			n.id = f.image.Config.Digest.String()
		}
		all = append(all, n)
	}
	return all, nil
}

// split gives the records to remove: those with the given names, and those that CRI made
// under the ID of an image that has no name any more then.
func split(all []named, names []imageref.Reference) (remove, orphans []named) {
	var ids, stay []named
	for _, r := range all {
		switch {
		case slices.ContainsFunc(names, func(n imageref.Reference) bool { return n.String() == r.name }):
			remove = append(remove, r)
		case isID(r.name):
			ids = append(ids, r)
		default:
			stay = append(stay, r)
		}
	}
	for _, r := range ids {
		same := func(o named) bool { return o.id == r.name || o.digest == r.digest }
		if slices.ContainsFunc(remove, same) && !slices.ContainsFunc(stay, same) {
			orphans = append(orphans, r)
		}
	}
	return remove, orphans
}
