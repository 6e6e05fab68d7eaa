package cri

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
)

// image is an image as CRI lists it, with names that are references.
type image struct {
	id     string // "sha256:…"
	raw    string // the ID as the runtime writes it
	names  []imageref.Reference
	size   int64
	pinned bool
}

// read takes from CRI's image what is understood. Runtimes write "<none>" for what has no
// name.
func read(i *api.Image) image {
	img := image{id: normaliseID(i.GetId()), raw: i.GetId(), size: int64(i.GetSize()), pinned: i.GetPinned()}
	for _, s := range slices.Concat(i.GetRepoTags(), i.GetRepoDigests()) {
		if ref, err := imageref.Parse(s); err == nil && !slices.Contains(img.names, ref) {
			img.names = append(img.names, ref)
		}
	}
	return img.known()
}

// known adds the names by digest that follow from an ID that is the digest itself, as with
// Docker on containerd's image store: it lists those of one repository only.
func (img image) known() image {
	d := digest.Digest(img.id)
	if !slices.ContainsFunc(img.names, func(n imageref.Reference) bool { return n.Digest() == d }) {
		return img
	}
	for _, n := range slices.Clone(img.names) {
		if by := n.WithDigest(d); n.Tag() != "" && !slices.Contains(img.names, by) {
			img.names = append(img.names, by)
		}
	}
	return img
}

// normaliseID gives an image ID as the digest it is; CRI-O leaves out the algorithm.
func normaliseID(id string) string {
	if d := digest.NewDigestFromEncoded(digest.SHA256, id); d.Validate() == nil {
		return d.String()
	}
	return id
}

// digestOf says what a name of an image points at. CRI does not tell which of several
// digests of a repository a tag is: "" then.
func (img image) digestOf(name imageref.Reference) digest.Digest {
	if name.Digest() != "" {
		return name.Digest()
	}
	var found digest.Digest
	for _, n := range img.names {
		if n.Digest() == "" || n.Name() != name.Name() {
			continue
		}
		if found != "" {
			return ""
		}
		found = n.Digest()
	}
	return found
}

// is says whether a name of an image may point at a digest.
func (img image) is(name imageref.Reference, d digest.Digest) bool {
	return slices.Contains(img.names, name) && slices.Contains(img.names, name.WithDigest(d))
}

// others gives the names of an image besides some, sorted.
func (img image) others(than []imageref.Reference) []imageref.Reference {
	out := slices.DeleteFunc(slices.Clone(img.names), func(n imageref.Reference) bool { return slices.Contains(than, n) })
	slices.SortFunc(out, func(a, b imageref.Reference) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// status asks for one image. ok is false when the runtime has it not.
func (d *Driver) status(ctx context.Context, name imageref.Reference) (img image, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := d.images.ImageStatus(ctx, &api.ImageStatusRequest{Image: &api.ImageSpec{Image: name.String()}})
	if err != nil {
		return image{}, false, classify("asking the runtime for image "+name.String(), err)
	}
	if resp.GetImage() == nil {
		return image{}, false, nil
	}
	return read(resp.GetImage()), true, nil
}

// Inventory lists images under all their names.
func (d *Driver) Inventory(ctx context.Context) (runtime.Inventory, error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	d.sync(ctx, all)
	compressed, err := d.canLease(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := d.pins.file.read()
	if err != nil {
		return nil, runtime.Failed("listing images", err)
	}
	inv := runtime.Inventory{}
	for _, img := range all {
		if !compressed {
			img.size = 0 // only containerd gives the compressed one
		}
		for _, name := range img.names {
			inv[name] = runtime.Held{
				Digest: img.digestOf(name), ID: img.id, Size: img.size, Complete: true, Managed: kept[name].managed,
				Pinned: img.pinnedAs(name, kept[name]),
			}
		}
	}
	return inv, nil
}

// Weigh gives the size that the runtime says, as one part: CRI tells nothing of layers.
func (d *Driver) Weigh(ctx context.Context) (map[imageref.Reference][]runtime.Part, error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	out := map[imageref.Reference][]runtime.Part{}
	for _, img := range all {
		for _, name := range img.names {
			out[name] = []runtime.Part{{ID: img.id, Size: img.size}}
		}
	}
	return out, nil
}

// pinnedAs says whether an image is pinned under a name. Another name may have it pinned: of
// one that is managed its own mark counts. By digest the mark counts alone, as CRI-O pins by
// that name only what was pulled by it, and more cannot be done.
func (img image) pinnedAs(name imageref.Reference, m mark) bool {
	switch {
	case !m.managed:
		return img.pinned
	case name.Digest() != "":
		return m.pinned
	}
	return img.pinned && m.pinned
}

func (d *Driver) list(ctx context.Context) ([]image, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := d.images.ListImages(ctx, &api.ListImagesRequest{})
	if err != nil {
		return nil, classify("listing images", err)
	}
	var all []image
	for _, i := range resp.GetImages() {
		all = append(all, read(i))
	}
	return all, nil
}

// InUse gives the images of all containers, whatever their state.
func (d *Driver) InUse(ctx context.Context) (map[string]struct{}, error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := d.runtime.ListContainers(ctx, &api.ListContainersRequest{})
	if err != nil {
		return nil, classify("listing containers", err)
	}
	used := map[string]struct{}{}
	for _, c := range resp.GetContainers() {
		for _, ref := range []string{c.GetImageId(), c.GetImageRef(), c.GetImage().GetImage()} {
			for _, id := range idsOf(ref, all) {
				used[id] = struct{}{}
			}
		}
	}
	return used, nil
}

// idsOf gives the images that a container may mean by an ID or a name.
func idsOf(ref string, all []image) (ids []string) {
	id := normaliseID(ref)
	name, err := imageref.Parse(ref)
	for _, img := range all {
		if img.id == id || err == nil && slices.Contains(img.names, name) {
			ids = append(ids, img.id)
		}
	}
	return ids
}

// Remove removes names. Where the runtime removes whole images only, that happens when all
// names of the image are given.
func (d *Driver) Remove(ctx context.Context, names ...imageref.Reference) error {
	info, err := d.Info(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, d.remove(ctx, name, names, info.Can(runtime.CanUntag)))
		if info.Can(runtime.CanResume) && name.Digest() != "" {
			errs = append(errs, d.dropLease(ctx, name))
		}
	}
	if info.Can(runtime.CanPin) {
		errs = append(errs, d.remark(ctx, func(marks) {})) // forgets what is gone
	}
	return errors.Join(errs...)
}

// dropLease lets go of what a pull that is not running any more left of a digest, unless
// the image has its name.
func (d *Driver) dropLease(ctx context.Context, name imageref.Reference) error {
	leave, ok := d.pulls.Try(name.Digest())
	if !ok {
		return nil
	}
	defer leave()
	if _, there, err := d.status(ctx, name); err != nil || there {
		return err
	}
	ctx, cancel := context.WithTimeout(inNamespace(ctx), callTimeout)
	defer cancel()
	if _, err := d.leases.Drop(ctx, name.Digest()); err != nil {
		return runtime.Failed("removing what is left of "+name.String(), err)
	}
	return nil
}

// remove removes one of several names that are to go. The image is looked up among all: by
// its name CRI-O does not find one that only its digest is left of.
func (d *Driver) remove(ctx context.Context, name imageref.Reference, names []imageref.Reference, untag bool) error {
	all, err := d.list(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(img image) bool { return slices.Contains(img.names, name) })
	if i < 0 {
		return nil
	}
	img, others, what := all[i], all[i].others(names), name.String()
	switch {
	case len(others) > 0 && (!untag || img.hangsOn(name, others)):
		return &runtime.NameSharedError{Name: name, Others: others}
	case len(others) == 0 && untag:
		what = img.raw // with all its names
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := d.images.RemoveImage(ctx, &api.RemoveImageRequest{Image: &api.ImageSpec{Image: what}}); err != nil {
		return classify("removing image "+name.String(), err)
	}
	return nil
}

// hangsOn says whether other names go with a tag: those by digest do that no other tag of
// the image holds.
func (img image) hangsOn(name imageref.Reference, others []imageref.Reference) bool {
	return name.Tag() != "" && !slices.ContainsFunc(others, func(n imageref.Reference) bool { return n.Tag() != "" })
}
