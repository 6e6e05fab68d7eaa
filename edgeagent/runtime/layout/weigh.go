package layout

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
)

var _ runtime.Weigher = (*Driver)(nil)

// Weigh gives the blobs that names need, also of what this driver does not understand.
func (d *Driver) Weigh(ctx context.Context) (map[imageref.Reference][]runtime.Part, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	idx, err := d.readIndex()
	if err != nil {
		return nil, runtime.Failed("weighing images", err)
	}
	out, known := map[imageref.Reference][]runtime.Part{}, map[digest.Digest][]runtime.Part{}
	for _, e := range idx.Manifests {
		name, ok := nameOf(e)
		if !ok {
			continue
		}
		parts, ok := known[e.Digest]
		if !ok {
			if parts, err = d.weigh(ctx, e.Digest); err != nil {
				return nil, runtime.Failed("weighing "+name.String(), err)
			}
			known[e.Digest] = parts
		}
		out[name] = parts
	}
	return out, nil
}

func (d *Driver) weigh(ctx context.Context, dg digest.Digest) (parts []runtime.Part, err error) {
	blobs := set{}
	if err := d.reach(ctx, dg, blobs); err != nil {
		return nil, err
	}
	for blob := range blobs {
		if !isDigest(blob) {
			continue
		}
		info, err := d.store.Info(ctx, blob)
		switch {
		case errdefs.IsNotFound(err):
		case err != nil:
			return nil, err
		default:
			parts = append(parts, runtime.Part{ID: blob.String(), Size: info.Size})
		}
	}
	return parts, nil
}

// admit asks whether an image may come in. Nothing is unpacked here.
func admit(r runtime.Request) func(context.Context, int64, []ocispec.Descriptor) error {
	if r.Admit == nil {
		return nil
	}
	return func(ctx context.Context, toCome int64, _ []ocispec.Descriptor) error {
		return r.Admit(ctx, runtime.Need{Fetch: toCome})
	}
}
