package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/unpacked"
)

var _ runtime.Verifier = (*Driver)(nil)

// labelRoot shields what has it from containerd's garbage collection.
const labelRoot = "containerd.io/gc.root"

// Verify compares every blob that is kept with its digest, and every unpacked layer with its
// blob, file by file. Where blobs are thrown away once they are unpacked only the number of
// files can be compared. Unpacked layers are read in containerd's own directories, as
// overlayfs has them: with another snapshotter blobs are all that is verified.
func (d *Driver) Verify(ctx context.Context, dg digest.Digest, limit fetch.Limiter) (runtime.Damage, error) {
	damage := runtime.Damage{Digest: dg}
	f, err := d.known(ctx, dg)
	if err != nil || f.chain == "" {
		return damage, unverified(dg, errors.Join(errors.New("the image is not whole"), err))
	}
	layers, err := d.layers(ctx, f)
	if err != nil {
		return damage, unverified(dg, err)
	}
	v := verification{driver: d, limit: limit, damage: &damage}
	for _, doc := range []ocispec.Descriptor{f.image.Target, f.image.Manifest, f.image.Config} {
		err = errors.Join(err, v.blob(ctx, doc.Digest, io.Discard))
	}
	for i := range layers {
		if err == nil {
			err = v.layer(ctx, &layers[i])
		}
	}
	if err != nil {
		return damage, unverified(dg, err)
	}
	return damage, nil
}

// unverified says why an image could not be read, and whether it is containerd that is away.
func unverified(dg digest.Digest, err error) error {
	if gone := away(err); gone != nil {
		err = fmt.Errorf("%w: %w", runtime.ErrAway, gone)
	}
	return runtime.Failed("verifying "+dg.String(), err)
}

// layer is one layer of an image, as it is unpacked.
type layer struct {
	blob   digest.Digest
	chain  string // the name of its snapshot
	dir    string // its files, "" where they cannot be read
	lowest bool
}

// layers gives the layers of an image, the lowest first.
func (d *Driver) layers(ctx context.Context, f facts) ([]layer, error) {
	diffs, err := images.RootFS(ctx, d.client.ContentStore(), f.image.Config)
	if err != nil {
		return nil, err
	}
	if len(diffs) != len(f.image.Layers) {
		return nil, fmt.Errorf("%d layers in the manifest, %d in the config", len(f.image.Layers), len(diffs))
	}
	dirs, err := d.layerDirs(ctx, f.chain)
	if err != nil {
		return nil, err
	}
	chains := identity.ChainIDs(slices.Clone(diffs))
	all := make([]layer, len(chains))
	for i := range all {
		all[i] = layer{blob: f.image.Layers[i].Digest, chain: chains[i].String(), lowest: i == 0}
		if len(dirs) == len(chains) {
			all[i].dir = dirs[i]
		}
	}
	return all, nil
}

// layerDirs asks how a snapshot would be mounted: on the directories of its layers.
func (d *Driver) layerDirs(ctx context.Context, chain string) (dirs []string, err error) {
	err = d.withSnapshot(ctx, "verify", func(sn snapshots.Snapshotter, key string) error {
		// Without a root containerd's garbage collection may take the view, and leave its parent
		// with a child that there is none of: it could not be removed any more.
		mounts, err := sn.View(ctx, key, chain, snapshots.WithLabels(map[string]string{labelRoot: time.Now().UTC().Format(time.RFC3339)}))
		dirs = overlaid(mounts)
		return err
	})
	if len(dirs) > 0 {
		if _, unseen := os.Stat(dirs[0]); unseen != nil && !seen(dirs) {
			return nil, err // the agent does not see containerd's disk
		}
	}
	return dirs, err
}

// seen says whether any of the directories is there.
func seen(dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { _, err := os.Stat(dir); return err == nil })
}

// overlaid gives the directories of an overlay's layers, the lowest first, none when the
// mounts are of another kind.
func overlaid(mounts []mount.Mount) []string {
	if len(mounts) != 1 {
		return nil
	}
	m := mounts[0]
	if m.Type == "bind" && strings.HasSuffix(m.Source, "/fs") {
		return []string{m.Source} // one layer is mounted as it is
	}
	for _, o := range m.Options {
		if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok && m.Type == "overlay" {
			lowest := strings.Split(dirs, ":")
			slices.Reverse(lowest)
			return lowest
		}
	}
	return nil
}

// verification is the work on one image.
type verification struct {
	driver *Driver
	limit  fetch.Limiter
	damage *runtime.Damage
}

// layer verifies blob and files in one reading of the blob.
func (v *verification) layer(ctx context.Context, l *layer) error {
	if l.dir == "" {
		return v.blob(ctx, l.blob, io.Discard)
	}
	_, err := v.driver.client.ContentStore().Info(ctx, l.blob)
	if errdefs.IsNotFound(err) {
		return v.count(ctx, l)
	}
	if err != nil {
		return err
	}
	return v.compare(ctx, l)
}

// compare has the files compared while the blob is read.
func (v *verification) compare(ctx context.Context, l *layer) error {
	var differs []string
	var uncompared error
	before := len(v.damage.Blobs)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		differs, uncompared = compareStream(ctx, l, r)
		_, _ = io.Copy(io.Discard, r) // the rest of the blob, for its digest
	}()
	err := v.blob(ctx, l.blob, w)
	_ = w.CloseWithError(err)
	<-done
	switch {
	case err != nil || len(v.damage.Blobs) > before:
		return err // what differs from a damaged blob says nothing
	case uncompared != nil:
		return uncompared
	case len(differs) > 0:
		v.found(l, fmt.Sprintf("%d files of layer %s are damaged, among them %s", len(differs), l.blob, differs[0]))
	}
	return nil
}

func compareStream(ctx context.Context, l *layer, blob io.Reader) ([]string, error) {
	if _, err := os.Stat(l.dir); errors.Is(err, os.ErrNotExist) {
		return []string{"the whole directory"}, nil
	}
	tar, err := compression.DecompressStream(blob)
	if err != nil {
		return nil, fmt.Errorf("decompressing layer %s: %w", l.blob, err)
	}
	defer func() { _ = tar.Close() }()
	return unpacked.Compare(ctx, l.dir, tar, l.lowest)
}

// found notes that an unpacked layer is damaged; the lowest one counts.
func (v *verification) found(l *layer, what string) {
	if v.damage.Snapshot == "" {
		v.damage.Snapshot = l.chain
	}
	v.note(what)
}

// count compares how many files a layer has with how many containerd counted when it was
// unpacked. That their content is intact cannot be known without the blob.
func (v *verification) count(ctx context.Context, l *layer) error {
	name, err := v.driver.snapshotterName(ctx)
	if err != nil {
		return err
	}
	had, err := v.driver.client.SnapshotService(name).Usage(ctx, l.chain)
	if err != nil {
		return err
	}
	has, err := continuity.DiskUsage(ctx, l.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.EIO) {
		return err
	}
	if has.Inodes < had.Inodes {
		v.found(l, fmt.Sprintf("layer %s has %d files, had %d when it was unpacked", l.blob, has.Inodes, had.Inodes))
	}
	return nil
}

// blob compares a blob with its digest and passes its bytes on. One that is not kept is
// none.
func (v *verification) blob(ctx context.Context, dg digest.Digest, to io.Writer) error {
	ra, err := v.driver.client.ContentStore().ReaderAt(ctx, ocispec.Descriptor{Digest: dg})
	if err != nil {
		return ignoreNotFound(err)
	}
	defer func() { _ = ra.Close() }()
	verifier := dg.Verifier()
	_, err = io.Copy(io.MultiWriter(verifier, to), runtime.Paced(ctx, content.NewReader(ra), v.limit))
	if err != nil && !strings.Contains(err.Error(), syscall.EIO.Error()) {
		return fmt.Errorf("reading %s: %w", dg, err)
	}
	if err != nil || !verifier.Verified() {
		v.damage.Blobs = append(v.damage.Blobs, dg)
		v.note(fmt.Sprintf("stored blob %s is damaged", dg))
	}
	return nil
}

// note keeps what was found first: one line says enough.
func (v *verification) note(what string) {
	if v.damage.What == "" {
		v.damage.What = what
	}
}
