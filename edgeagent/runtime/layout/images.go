package layout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

// maxTurns bounds how often Ensure begins anew when blobs vanish under its hands.
const maxTurns = 3

// Ensure brings in what is missing and names it.
func (d *Driver) Ensure(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	if err := r.Check(); err != nil {
		return err
	}
	leave, err := d.pulls.Enter(ctx, r.Digest)
	if err != nil {
		return err
	}
	defer leave()
	defer d.begin(r.Digest)()
	p := &fetch.Puller{Source: d.options.Source, Store: d.store, Options: d.options.Fetch, Admit: admit(r)}
	want := fetch.Want{Name: r.Name, Digest: r.Digest, Platform: d.options.Platform}
	for range maxTurns {
		img, err := p.Image(ctx, want, progress)
		if err != nil {
			return err
		}
		if named, err := d.name(ctx, r, img); named || err != nil {
			return err
		}
	}
	return runtime.Failed("naming "+r.Name.String(), errors.New("blobs vanish as fast as they come"))
}

// begin protects the blobs of a digest from being removed, until the result is called.
func (d *Driver) begin(dg digest.Digest) (end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.active[dg]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.active[dg]--; d.active[dg] == 0 {
			delete(d.active, dg)
		}
	}
}

// name gives an image its names, unless a blob of it has been removed meanwhile.
func (d *Driver) name(ctx context.Context, r runtime.Request, img fetch.Image) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.complete(ctx, img) {
		return false, nil
	}
	idx, err := d.readIndex()
	if err != nil {
		return false, runtime.Failed("naming "+r.Name.String(), err)
	}
	changed := false
	d.named++
	for _, name := range runtime.NamesOf(r.Name, r.Digest) {
		changed = setName(idx, name, img.Target, r.Pin) || changed
	}
	if !changed {
		return true, nil
	}
	if err := d.writeIndex(idx); err != nil {
		return false, runtime.Failed("naming "+r.Name.String(), err)
	}
	return true, nil
}

// complete says whether every blob of an image is there with its size.
func (d *Driver) complete(ctx context.Context, img fetch.Image) bool {
	for _, want := range append(img.Blobs(), img.Target, img.Manifest) {
		if info, err := d.store.Info(ctx, want.Digest); err != nil || info.Size != want.Size {
			return false
		}
	}
	return true
}

// Inventory gives the named entries of index.json. Completeness is judged by size, not by
// content.
func (d *Driver) Inventory(ctx context.Context) (runtime.Inventory, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	idx, err := d.readIndex()
	if err != nil {
		return nil, runtime.Failed("listing images", err)
	}
	inv := runtime.Inventory{}
	for _, e := range idx.Manifests {
		name, ok := nameOf(e)
		if !ok {
			continue
		}
		held := runtime.Held{Digest: e.Digest, Managed: e.Annotations[annotationManaged] == yes, Pinned: e.Annotations[annotationPinned] == yes}
		if img, err := d.describe(ctx, e.Digest); err == nil {
			held.ID, held.Size, held.Complete = img.Config.Digest.String(), img.Size, d.complete(ctx, img)
		}
		inv[name] = held
	}
	d.forget(idx)
	return inv, nil
}

// describe says what an image consists of, under mu. What a digest means never changes, so
// it is read once; whether the blobs are there is another question.
func (d *Driver) describe(ctx context.Context, dg digest.Digest) (fetch.Image, error) {
	if img, ok := d.facts[dg]; ok {
		return img, nil
	}
	img, err := fetch.Describe(ctx, d.store, dg, d.options.Platform)
	if err == nil {
		d.facts[dg] = img
	}
	return img, err
}

// forget drops what is known of images that are no longer in the index, under mu.
func (d *Driver) forget(idx *ocispec.Index) {
	listed := map[digest.Digest]bool{}
	for _, e := range idx.Manifests {
		listed[e.Digest] = true
	}
	maps.DeleteFunc(d.facts, func(dg digest.Digest, _ fetch.Image) bool { return !listed[dg] })
}

// Pin marks names as pinned.
func (d *Driver) Pin(_ context.Context, names ...imageref.Reference) error {
	return d.annotate("pinning images", names, map[string]string{annotationPinned: yes})
}

// Release makes names unmanaged and unpinned.
func (d *Driver) Release(_ context.Context, names ...imageref.Reference) error {
	return d.annotate("releasing images", names, map[string]string{annotationManaged: "", annotationPinned: ""})
}

// annotate sets annotations of names, or takes off those that are empty.
func (d *Driver) annotate(doing string, names []imageref.Reference, values map[string]string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	idx, err := d.readIndex()
	if err != nil {
		return runtime.Failed(doing, err)
	}
	changed := false
	for _, name := range names {
		changed = annotate(idx, name, values) || changed
	}
	if !changed {
		return nil
	}
	if err := d.writeIndex(idx); err != nil {
		return runtime.Failed(doing, err)
	}
	return nil
}

// Remove removes names, and the blobs that only they needed. Names go first: a crash in
// between leaves blobs behind, which go when they are old, and never a name without blobs.
func (d *Driver) Remove(ctx context.Context, names ...imageref.Reference) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	idx, err := d.readIndex()
	if err != nil {
		return runtime.Failed("removing images", err)
	}
	var dropped []ocispec.Descriptor
	for _, name := range names {
		dropped = append(dropped, dropName(idx, name)...)
	}
	if len(dropped) > 0 {
		if err := d.writeIndex(idx); err != nil {
			return runtime.Failed("removing images", err)
		}
	}
	if dropped = append(dropped, halves(names, dropped)...); len(dropped) == 0 {
		return nil
	}
	if err := errors.Join(d.sweep(ctx, idx, dropped), d.sweepOld(ctx, idx)); err != nil {
		return runtime.Failed(fmt.Sprintf("removing the blobs of %d names", len(dropped)), err)
	}
	return nil
}

// halves gives what the digests of names stand for that had no name: what is left of a pull
// that was given up.
func halves(names []imageref.Reference, dropped []ocispec.Descriptor) (out []ocispec.Descriptor) {
	for _, name := range names {
		same := func(e ocispec.Descriptor) bool { return e.Digest == name.Digest() }
		if name.Digest() != "" && !slices.ContainsFunc(dropped, same) {
			out = append(out, ocispec.Descriptor{Digest: name.Digest()})
		}
	}
	return out
}
