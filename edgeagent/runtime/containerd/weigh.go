package containerd

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
)

var _ runtime.Weigher = (*Driver)(nil)

// scales are what there is on disk, in bytes: blobs and unpacked layers.
type scales struct {
	blobs  map[digest.Digest]int64
	layers map[string]unpackedLayer
}

type unpackedLayer struct {
	parent string
	size   int64
}

// Weigh gives the blobs and unpacked layers of every image.
func (d *Driver) Weigh(ctx context.Context) (map[imageref.Reference][]runtime.Part, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	records, err := d.client.ImageService().List(ctx)
	if err != nil {
		return nil, runtime.Failed("listing images", err)
	}
	s, err := d.scales(ctx)
	if err != nil {
		return nil, runtime.Failed("weighing images", err)
	}
	out := map[imageref.Reference][]runtime.Part{}
	for _, r := range records {
		name, ok := nameOf(r)
		if !ok {
			continue // also CRI's records by ID: they go with the last name
		}
		f, err := d.known(ctx, r.Target.Digest)
		if err := away(err); err != nil {
			return nil, runtime.Failed("looking at image "+r.Name, err)
		}
		out[name] = s.weigh(f)
	}
	return out, nil
}

func (d *Driver) scales(ctx context.Context) (scales, error) {
	s := scales{map[digest.Digest]int64{}, map[string]unpackedLayer{}}
	err := d.client.ContentStore().Walk(ctx, func(info content.Info) error {
		s.blobs[info.Digest] = info.Size
		return nil
	})
	if err != nil {
		return s, err
	}
	sn, err := d.snapshotterName(ctx)
	if err != nil {
		return s, err
	}
	service := d.client.SnapshotService(sn)
	return s, ignoreNotFound(service.Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
		if info.Kind != snapshots.KindCommitted {
			return nil
		}
		usage, err := service.Usage(ctx, info.Name)
		if err == nil {
			s.layers[info.Name] = unpackedLayer{info.Parent, usage.Size}
		}
		return ignoreNotFound(err)
	}))
}

func (s scales) weigh(f facts) (parts []runtime.Part) {
	for _, blob := range append(f.image.Blobs(), f.image.Target, f.image.Manifest) {
		if size, ok := s.blobs[blob.Digest]; ok { // of one that is not known there is nothing
			parts = append(parts, runtime.Part{ID: blob.Digest.String(), Size: size})
		}
	}
	for chain := f.chain; chain != ""; {
		l, ok := s.layers[chain]
		if !ok {
			break
		}
		parts, chain = append(parts, runtime.Part{ID: "snapshot " + chain, Size: l.size}), l.parent
	}
	return parts
}

// Unpacked bytes by compressed ones. Images of distributions and of language runtimes lie
// between 2 and 3; an estimate that is too low costs a pull that is stopped half way.
const (
	unpackedOfGzip = 2.5
	unpackedOfZstd = 3
)

// estimate gives how much layers will take when they are unpacked.
func estimate(ctx context.Context, layers []ocispec.Descriptor) (n int64) {
	for _, l := range layers {
		factor := unpackedOfGzip
		switch compression, err := images.DiffCompression(ctx, l.MediaType); {
		case err == nil && compression == "":
			factor = 1
		case err == nil && compression == "zstd":
			factor = unpackedOfZstd
		}
		n += int64(factor * float64(l.Size))
	}
	return n
}

// admit asks whether an image may come in.
func admit(r runtime.Request) func(context.Context, int64, []ocispec.Descriptor) error {
	if r.Admit == nil {
		return nil
	}
	return func(ctx context.Context, toCome int64, layers []ocispec.Descriptor) error {
		return r.Admit(ctx, runtime.Need{Fetch: toCome, Unpack: estimate(ctx, layers)})
	}
}
