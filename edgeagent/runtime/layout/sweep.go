package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/internal/clock"
)

// set is a set of blobs.
type set map[digest.Digest]bool

// refers is what any manifest or index may refer to, whatever its media type: content that
// this driver does not understand must be kept as well.
type refers struct {
	Manifests []ocispec.Descriptor `json:"manifests"`
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Blobs     []ocispec.Descriptor `json:"blobs"`
}

// reach adds a manifest or index and everything below it to a set. What is absent has
// nothing below it. It fails on what it cannot read: then nothing may be removed.
func (d *Driver) reach(ctx context.Context, dg digest.Digest, into set) error {
	if into[dg] || !isDigest(dg) {
		return nil
	}
	into[dg] = true
	r, err := d.refers(ctx, dg)
	if err != nil {
		return err
	}
	into[r.Config.Digest] = true
	for _, l := range append(r.Layers, r.Blobs...) {
		into[l.Digest] = true
	}
	for _, m := range r.Manifests {
		if err := d.reach(ctx, m.Digest, into); err != nil {
			return err
		}
	}
	return nil
}

// isDigest says whether what another tool wrote is a digest at all.
func isDigest(dg digest.Digest) bool { return dg.Validate() == nil }

// refers reads what a manifest or index refers to: nothing if it is absent, or no JSON.
func (d *Driver) refers(ctx context.Context, dg digest.Digest) (r refers, err error) {
	info, err := d.store.Info(ctx, dg)
	if err != nil || info.Size > fetch.MaxDocument {
		return refers{}, ignoreNotFound(err)
	}
	b, err := content.ReadBlob(ctx, d.store, ocispec.Descriptor{Digest: dg, Size: info.Size})
	if err != nil {
		return refers{}, ignoreNotFound(err)
	}
	if !json.Valid(b) {
		return refers{}, nil
	}
	// What is JSON of another shape refers to what could be read of it.
	_ = json.Unmarshal(b, &r)
	return r, nil
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// needed gives every blob that the index or a running Ensure needs, under mu.
func (d *Driver) needed(ctx context.Context, idx *ocispec.Index) (set, error) {
	keep := set{}
	for _, e := range idx.Manifests {
		if err := d.reach(ctx, e.Digest, keep); err != nil {
			return nil, err
		}
	}
	for dg := range d.active {
		if err := d.reach(ctx, dg, keep); err != nil {
			return nil, err
		}
	}
	return keep, nil
}

// sweep removes the blobs of entries that were dropped from the index, and the ingests of
// such blobs, under mu.
func (d *Driver) sweep(ctx context.Context, idx *ocispec.Index, dropped []ocispec.Descriptor) error {
	keep, err := d.needed(ctx, idx)
	if err != nil {
		return err
	}
	gone := set{}
	for _, e := range dropped {
		if err := d.reach(ctx, e.Digest, gone); err != nil {
			return err
		}
	}
	maps.DeleteFunc(gone, func(dg digest.Digest, _ bool) bool { return keep[dg] || dg == "" })
	var errs []error
	for dg := range gone {
		errs = append(errs, d.removeBlob(ctx, dg))
	}
	ingests, err := d.store.ListStatuses(ctx)
	for _, in := range ingests {
		// An ingest is named "layer-sha256:…".
		if _, dg, ok := strings.Cut(in.Ref, "-"); ok && gone[digest.Digest(dg)] {
			errs = append(errs, d.store.Abort(ctx, in.Ref))
		}
	}
	return errors.Join(append(errs, err)...)
}

func (d *Driver) removeBlob(ctx context.Context, dg digest.Digest) error {
	delete(d.facts, dg)
	if err := d.store.Delete(ctx, dg); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing blob %s: %w", dg, err)
	}
	return nil
}

// sweepOld removes blobs and ingests that nothing needs and that have not been written to
// for KeepUnnamed, under mu: what is left of pulls that were given up, or of a crash.
func (d *Driver) sweepOld(ctx context.Context, idx *ocispec.Index) error {
	keep, err := d.needed(ctx, idx)
	if err != nil {
		return err
	}
	before := time.Now().Add(-d.options.KeepUnnamed)
	var errs []error
	err = d.store.Walk(ctx, func(info content.Info) error {
		if !keep[info.Digest] && d.writtenBefore(info.CreatedAt, before) {
			errs = append(errs, d.removeBlob(ctx, info.Digest))
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	if len(d.active) == 0 { // an ingest that is being written to does not show its age
		errs = append(errs, d.abortOld(ctx, before))
	}
	return errors.Join(errs...)
}

// writtenBefore says whether something is old. What was written while the clock was not set
// may have been a moment ago: it counts as written when the driver was made.
func (d *Driver) writtenBefore(at, before time.Time) bool {
	if !clock.IsSet(at) {
		at = d.began
	}
	return at.Before(before)
}

func (d *Driver) abortOld(ctx context.Context, before time.Time) error {
	ingests, err := d.store.ListStatuses(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, in := range ingests {
		if d.writtenBefore(in.UpdatedAt, before) {
			errs = append(errs, d.store.Abort(ctx, in.Ref))
		}
	}
	return errors.Join(errs...)
}
