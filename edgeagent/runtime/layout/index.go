package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/imageref"
)

const (
	indexFile = ocispec.ImageIndexFile
	tempFile  = indexFile + ".new"
	// maxIndex bounds index.json: some 100,000 names.
	maxIndex = 64 << 20

	annotationManaged = "edgecache.dev/managed"
	annotationPinned  = "edgecache.dev/pinned"
	yes               = "true"
)

// prepare makes the layout's marker file, or checks the one that is there.
func (d *Driver) prepare() error {
	b, err := d.root.ReadFile(ocispec.ImageLayoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		return d.replace(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	}
	if err != nil {
		return err
	}
	var l ocispec.ImageLayout
	if err := json.Unmarshal(b, &l); err != nil || l.Version == "" {
		// A torn marker says nothing about the images.
		return d.replace(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	}
	if !strings.HasPrefix(l.Version, "1.") {
		return fmt.Errorf("layout version is %q, want 1.x", l.Version)
	}
	return nil
}

// readIndex reads index.json, under mu. A damaged one is moved aside.
func (d *Driver) readIndex() (*ocispec.Index, error) {
	idx, err := d.loadIndex()
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return idx, nil
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("reading %s: %w", indexFile, err)
	}
	aside := fmt.Sprintf("%s.damaged-%d", indexFile, time.Now().UnixNano())
	if rerr := d.root.Rename(indexFile, aside); rerr != nil {
		return nil, fmt.Errorf("moving aside damaged %s: %w", indexFile, rerr)
	}
	if d.options.Damaged != nil {
		d.options.Damaged(fmt.Errorf("%s is damaged and was moved to %s: %w", indexFile, aside, err))
	}
	return emptyIndex(), nil
}

func emptyIndex() *ocispec.Index {
	idx := &ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	idx.SchemaVersion = 2
	return idx
}

func (d *Driver) loadIndex() (*ocispec.Index, error) {
	f, err := d.root.Open(indexFile)
	if err != nil {
		return emptyIndex(), err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxIndex {
		return nil, fmt.Errorf("more than %d bytes", maxIndex)
	}
	idx := new(ocispec.Index)
	if err := json.Unmarshal(b, idx); err != nil {
		return nil, err
	}
	if idx.SchemaVersion != 2 {
		return nil, fmt.Errorf("schema version is %d, want 2", idx.SchemaVersion)
	}
	return idx, nil
}

// writeIndex replaces index.json, under mu.
func (d *Driver) writeIndex(idx *ocispec.Index) error { return d.replace(indexFile, idx) }

// replace writes a file beside the one it replaces, syncs it and renames it.
func (d *Driver) replace(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	if err := d.writeSynced(tempFile, b); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := d.root.Rename(tempFile, name); err != nil {
		return fmt.Errorf("replacing %s: %w", name, err)
	}
	return d.syncDir()
}

func (d *Driver) writeSynced(name string, b []byte) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, werr := f.Write(b)
	return errors.Join(werr, f.Sync(), f.Close())
}

// syncDir makes a rename last.
func (d *Driver) syncDir() error {
	dir, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// nameOf gives the name of an entry; false when it has none that is a full reference.
func nameOf(e ocispec.Descriptor) (imageref.Reference, bool) {
	for _, key := range []string{images.AnnotationImageName, ocispec.AnnotationRefName} {
		if ref, err := imageref.Parse(e.Annotations[key]); err == nil && ref.String() == e.Annotations[key] {
			return ref, true
		}
	}
	return imageref.Reference{}, false
}

// setName makes a name point at target, and says whether that changed anything.
func setName(idx *ocispec.Index, name imageref.Reference, target ocispec.Descriptor, pin bool) bool {
	want := ocispec.Descriptor{
		MediaType: target.MediaType, Digest: target.Digest, Size: target.Size,
		Annotations: map[string]string{ocispec.AnnotationRefName: name.String(), annotationManaged: yes},
	}
	if pin {
		want.Annotations[annotationPinned] = yes
	}
	i := slices.IndexFunc(idx.Manifests, func(e ocispec.Descriptor) bool {
		is, ok := nameOf(e)
		return ok && is == name
	})
	if i >= 0 && isEntry(idx.Manifests[i], want) {
		return false
	}
	// The name may be there more than once in what others wrote.
	dropName(idx, name)
	idx.Manifests = append(idx.Manifests, want)
	return true
}

func isEntry(have, want ocispec.Descriptor) bool {
	return have.Digest == want.Digest && have.Size == want.Size && have.MediaType == want.MediaType &&
		have.Annotations[annotationManaged] == yes && have.Annotations[annotationPinned] == want.Annotations[annotationPinned]
}

// dropName removes a name and gives the entries that had it.
func dropName(idx *ocispec.Index, name imageref.Reference) (dropped []ocispec.Descriptor) {
	idx.Manifests = slices.DeleteFunc(idx.Manifests, func(e ocispec.Descriptor) bool {
		is, ok := nameOf(e)
		if ok && is == name {
			dropped = append(dropped, e)
			return true
		}
		return false
	})
	return dropped
}

// annotate sets annotations of a name, or takes off those that are empty. It says whether
// that changed anything.
func annotate(idx *ocispec.Index, name imageref.Reference, values map[string]string) (changed bool) {
	for i := range idx.Manifests {
		e := &idx.Manifests[i]
		if is, ok := nameOf(*e); !ok || is != name {
			continue
		}
		for key, value := range values {
			if e.Annotations[key] == value {
				continue
			}
			changed = true
			if e.Annotations[key] = value; value == "" {
				delete(e.Annotations, key)
			}
		}
	}
	return changed
}
