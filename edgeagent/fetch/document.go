package fetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// document gives a manifest or index, from the store or else from the source. Its size
// and media type are unknown before.
func (j *job) document(ctx context.Context, d digest.Digest) (document, error) {
	body, err := j.read(ctx, d)
	if errdefs.IsNotFound(err) {
		body, err = j.askManifest(ctx, d)
	}
	if err != nil {
		return document{}, err
	}
	doc, err := parse(d, body)
	if err != nil {
		return document{}, err
	}
	// Also when the store has it: opening it for writing is what takes the lease on it.
	return doc, j.write(ctx, doc.desc, body)
}

// askManifest reads from the source, again when the connection breaks.
func (j *job) askManifest(ctx context.Context, d digest.Digest) ([]byte, error) {
	b := backoff{limit: j.options.Attempts}
	for {
		body, err := j.repo.Manifest(ctx, d)
		if err == nil {
			return body, j.limit(ctx, len(body))
		}
		if !retryNow(err) {
			return nil, err
		}
		if err := b.wait(ctx, false, err); err != nil {
			return nil, err
		}
	}
}

// config gives an image config, which it brings in first.
func (j *job) config(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if err := j.blob(ctx, bare(d)); err != nil {
		return nil, err
	}
	return j.read(ctx, d.Digest)
}

// read gives a small blob of the store and throws it away if it is damaged.
func (j *job) read(ctx context.Context, d digest.Digest) ([]byte, error) {
	body, err := read(ctx, j.store, d)
	if errors.Is(err, errDamaged) {
		return nil, j.discard(ctx, d)
	}
	return body, err
}

// errDamaged says that the store holds other bytes than it should.
var errDamaged = errors.New("the stored bytes are damaged")

// read gives a small blob of the store, checked. The error is one of errdefs.IsNotFound
// when the store has it not.
func read(ctx context.Context, store content.InfoReaderProvider, d digest.Digest) ([]byte, error) {
	info, err := store.Info(ctx, d)
	if errdefs.IsNotFound(err) {
		return nil, err
	}
	if err != nil {
		return nil, storeError(ctx, "looking for "+d.String(), err)
	}
	if info.Size > MaxDocument {
		return nil, refuse("%s has %d bytes, a manifest or config at most %d", d, info.Size, MaxDocument)
	}
	body, err := content.ReadBlob(ctx, store, ocispec.Descriptor{Digest: d, Size: info.Size})
	if err != nil {
		return nil, storeError(ctx, "reading "+d.String(), err)
	}
	if d.Algorithm().FromBytes(body) != d {
		return nil, fmt.Errorf("reading %s: %w", d, errDamaged)
	}
	return body, nil
}

// discard deletes a damaged blob. The call fails; the next one finds it missing.
func (j *job) discard(ctx context.Context, d digest.Digest) error {
	if err := j.store.Delete(ctx, d); err != nil && !errdefs.IsNotFound(err) {
		return storeError(ctx, "deleting damaged "+d.String(), err)
	}
	if j.collect != nil {
		if err := j.collect(ctx); err != nil {
			return storeError(ctx, "deleting damaged "+d.String(), err)
		}
	}
	return &Error{Reason: RuntimeError, Err: fmt.Errorf("reading %s: %w and were deleted", d, errDamaged)}
}

// write puts a document into the store, if it is not there.
func (j *job) write(ctx context.Context, d ocispec.Descriptor, body []byte) error {
	in, err := j.open(ctx, d)
	if in == nil || err != nil {
		return err
	}
	defer in.close()
	if in.offset > 0 {
		if err := in.w.Truncate(0); err != nil {
			return storeError(ctx, "writing "+d.Digest.String(), err)
		}
	}
	if _, err := in.w.Write(body); err != nil {
		return storeError(ctx, "writing "+d.Digest.String(), err)
	}
	if err := in.w.Commit(ctx, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return storeError(ctx, "committing "+d.Digest.String(), err)
	}
	return nil
}

// label makes a document keep its children from containerd's garbage collector.
func (j *job) label(ctx context.Context, doc document) error {
	children := func(context.Context, ocispec.Descriptor) ([]ocispec.Descriptor, error) { return doc.children(), nil }
	handler := images.SetChildrenMappedLabels(frugal{j.store}, children, images.ChildGCLabels)
	if _, err := handler(ctx, doc.desc); err != nil {
		return storeError(ctx, "labelling "+doc.desc.Digest.String(), err)
	}
	return nil
}

// children are what a document refers to. For an index that is every entry, as containerd
// labels it: entries that are absent do no harm, and a later pull finds its labels set.
func (doc document) children() []ocispec.Descriptor {
	if doc.index != nil {
		return doc.index.Manifests
	}
	return slices.Concat([]ocispec.Descriptor{doc.manifest.Config}, doc.manifest.Layers)
}

// frugal writes labels only where they are not set: each write is a transaction that the
// runtime syncs to disk.
type frugal struct{ content.Store }

// Update writes the labels that differ.
func (f frugal) Update(ctx context.Context, info content.Info, fields ...string) (content.Info, error) {
	have, err := f.Info(ctx, info.Digest)
	if err != nil {
		return content.Info{}, err
	}
	missing := slices.DeleteFunc(slices.Collect(maps.Keys(info.Labels)), func(key string) bool {
		return have.Labels[key] == info.Labels[key]
	})
	if len(missing) == 0 {
		return have, nil
	}
	fields = slices.DeleteFunc(fields, func(field string) bool {
		return !slices.Contains(missing, strings.TrimPrefix(field, "labels."))
	})
	return f.Store.Update(ctx, info, fields...)
}
