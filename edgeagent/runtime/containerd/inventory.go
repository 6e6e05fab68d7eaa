package containerd

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

// facts is what a digest means. It never changes, so it is worked out once.
type facts struct {
	image fetch.Image
	chain string // the snapshot of the topmost layer; "" while the config has not been read
}

// known gives the facts about a digest as far as the content store has what they follow
// from: an error means nothing is known.
func (d *Driver) known(ctx context.Context, dg digest.Digest) (facts, error) {
	d.mu.Lock()
	f, ok := d.facts[dg]
	d.mu.Unlock()
	if ok {
		return f, nil
	}
	store := d.client.ContentStore()
	img, err := fetch.Describe(ctx, store, dg, d.options.Platform)
	if err != nil {
		return facts{}, err
	}
	f.image = img
	diffs, err := images.RootFS(ctx, store, img.Config)
	if err != nil {
		return f, away(err) // else the config is missing
	}
	f.chain = identity.ChainID(diffs).String()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.facts[dg] = f
	return f, nil
}

// forget drops the facts about digests that no record points at.
func (d *Driver) forget(records []images.Image) {
	used := map[digest.Digest]bool{}
	for _, r := range records {
		used[r.Target.Digest] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.facts, func(dg digest.Digest, _ facts) bool { return !used[dg] })
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Inventory lists image records whose names are references. Each digest is looked at once.
func (d *Driver) Inventory(ctx context.Context) (runtime.Inventory, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	records, err := d.client.ImageService().List(ctx)
	if err != nil {
		return nil, runtime.Failed("listing images", err)
	}
	d.forget(records)
	find, err := d.committed(ctx)
	if err != nil {
		return nil, runtime.Failed("listing snapshots", err)
	}
	inv, seen := runtime.Inventory{}, map[digest.Digest]runtime.Held{}
	for _, r := range records {
		name, ok := nameOf(r)
		if !ok {
			continue
		}
		held, ok := seen[r.Target.Digest]
		if !ok {
			if held, err = d.held(ctx, r.Target.Digest, find); err != nil {
				return nil, runtime.Failed("looking at image "+r.Name, err)
			}
			seen[r.Target.Digest] = held
		}
		held.Since = r.CreatedAt
		held.Pinned, held.Managed = r.Labels[labelPinned] == pinned, r.Labels[labelManaged] == yes
		inv[name] = held
	}
	return inv, nil
}

// held says what is known of a digest, whatever its names.
func (d *Driver) held(ctx context.Context, dg digest.Digest, find finder) (runtime.Held, error) {
	held := runtime.Held{Digest: dg}
	f, err := d.known(ctx, dg)
	if err != nil {
		// No manifest, or one that means nothing here: not an image that could start.
		return held, away(err)
	}
	held.ID, held.Size = f.image.Config.Digest.String(), f.image.Size
	held.Complete, held.Lazy, err = d.complete(ctx, f, find)
	return held, err
}

// away passes on the errors that say that containerd is away, rather than that content is.
func away(err error) error {
	if errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err) || errdefs.IsCanceled(err) {
		return err
	}
	return nil
}

// nameOf gives a record's name as a reference. Records that CRI keeps under an image's ID
// are no names.
func nameOf(r images.Image) (imageref.Reference, bool) {
	ref, err := imageref.Parse(r.Name)
	return ref, err == nil && ref.String() == r.Name && !isID(r.Name)
}

// isID says whether a record is the one that CRI keeps under the image's ID.
func isID(name string) bool { return strings.HasPrefix(name, "sha256:") }

// InUse gives the images of all containers, whatever their state, by name and by snapshot:
// a name may have moved since, and a volume made of an image has a snapshot only.
func (d *Driver) InUse(ctx context.Context) (map[string]struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	records, err := d.client.ImageService().List(ctx)
	if err != nil {
		return nil, runtime.Failed("listing images", err)
	}
	names, err := d.containerImages(ctx)
	if err != nil {
		return nil, runtime.Failed("listing containers", err)
	}
	chains, err := d.usedChains(ctx)
	if err != nil {
		return nil, runtime.Failed("listing snapshots", err)
	}
	used := map[string]struct{}{}
	for name := range names {
		if isID(name) {
			used[name] = struct{}{}
		}
	}
	for _, r := range records {
		f, err := d.known(ctx, r.Target.Digest)
		if err := away(err); err != nil {
			return nil, runtime.Failed("looking at image "+r.Name, err)
		}
		_, named := names[r.Name]
		_, mounted := chains[f.chain]
		if err == nil && (named || mounted && f.chain != "") {
			used[f.image.Config.Digest.String()] = struct{}{}
		}
	}
	return used, nil
}

// containerImages gives the names under which containers know their images.
func (d *Driver) containerImages(ctx context.Context) (map[string]struct{}, error) {
	list, err := d.client.ContainerService().List(ctx)
	names := map[string]struct{}{}
	for _, c := range list {
		names[c.Image] = struct{}{}
	}
	return names, err
}

// usedChains gives the snapshots that something is mounted on.
func (d *Driver) usedChains(ctx context.Context) (map[string]struct{}, error) {
	chains := map[string]struct{}{}
	sn, err := d.snapshotterName(ctx)
	if err != nil {
		return nil, err
	}
	err = d.client.SnapshotService(sn).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind != snapshots.KindCommitted {
			chains[info.Parent] = struct{}{}
		}
		return nil
	})
	return chains, ignoreNotFound(err)
}

// missingLayers gives the layers that must be fetched to unpack an image: those above the
// highest layer that is unpacked already.
func (d *Driver) missingLayers(ctx context.Context, img fetch.Image) ([]ocispec.Descriptor, error) {
	diffs, err := images.RootFS(ctx, d.client.ContentStore(), img.Config)
	if err != nil {
		return nil, runtime.Failed("reading config "+img.Config.Digest.String(), err)
	}
	if len(diffs) != len(img.Layers) {
		return img.Layers, nil // unpacking will say what is wrong
	}
	chains := identity.ChainIDs(slices.Clone(diffs))
	for i, chain := range slices.Backward(chains) {
		has, err := d.hasSnapshot(ctx, chain.String())
		if err != nil {
			return nil, runtime.Failed("looking for snapshot "+chain.String(), err)
		}
		if has {
			return img.Layers[i+1:], nil
		}
	}
	return img.Layers, nil
}
