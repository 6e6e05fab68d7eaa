package lock

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck"
)

// What a lock file says it is.
const (
	APIVersion = "registrycheck.edgecache.dev/v1"
	Kind       = "ImageLock"
)

// maxFile is the longest file that is read, in bytes: that of 10,000 images.
const maxFile = 64 << 20

// File is a lock file.
type File struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Images are sorted by reference; no reference is there twice.
	Images []Image `json:"images"`
}

// Image is what a reference stood for.
type Image struct {
	// Reference is canonical: docker.io/library/nginx:1.27.
	Reference string `json:"reference"`
	// Digest is that of the index where there is one.
	Digest string `json:"digest"`
	// Platforms are those that were checked, sorted.
	Platforms []Platform `json:"platforms"`
}

// Platform is what a node of one platform takes.
type Platform struct {
	Platform string `json:"platform"`
	// Digest is that of the manifest.
	Digest string `json:"digest"`
	// Size is what a node downloads that has nothing of it, in bytes: manifest,
	// configuration and each distinct layer once.
	Size   int64   `json:"size"`
	Layers []Layer `json:"layers"`
}

// Layer is one compressed layer.
type Layer struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // bytes
}

// New locks what was checked. Every image must be pullable; the error names the first that
// is not. One reference that was checked twice, with different credentials say, is locked
// with the platforms of both.
func New(results []registrycheck.Result) (File, error) {
	byReference := map[string]*Image{}
	for _, r := range results {
		if r.Verdict != registrycheck.Pullable {
			return File{}, fmt.Errorf("%s is %s (%s): only images that are all pullable can be locked", r.Reference, r.Verdict, r.Reason)
		}
		image, err := imageOf(r)
		if err != nil {
			return File{}, err
		}
		known := byReference[image.Reference]
		switch {
		case known == nil:
			byReference[image.Reference] = &image
		case known.Digest != image.Digest:
			return File{}, fmt.Errorf("%s stood for %s and, a moment later, for %s: check again", image.Reference, known.Digest, image.Digest)
		default:
			known.Platforms = append(known.Platforms, image.Platforms...)
		}
	}
	f := File{APIVersion: APIVersion, Kind: Kind, Images: []Image{}}
	for _, image := range byReference {
		f.Images = append(f.Images, *image)
	}
	f.sort()
	return f, nil
}

func (f *File) sort() {
	slices.SortFunc(f.Images, func(a, b Image) int { return cmp.Compare(a.Reference, b.Reference) })
	for i := range f.Images {
		all := f.Images[i].Platforms
		slices.SortFunc(all, func(a, b Platform) int { return cmp.Compare(a.Platform, b.Platform) })
		f.Images[i].Platforms = slices.CompactFunc(all, func(a, b Platform) bool { return a.Platform == b.Platform })
	}
}

// imageOf keeps what is to be locked of a result.
func imageOf(r registrycheck.Result) (Image, error) {
	reference, err := canonical(r.Reference)
	if err != nil {
		return Image{}, err
	}
	image := Image{Reference: reference, Digest: r.Digest, Platforms: []Platform{}}
	for _, p := range r.Platforms {
		out := Platform{Platform: p.Platform, Digest: p.Digest, Size: p.Size, Layers: []Layer{}}
		for _, l := range p.Layers {
			out.Layers = append(out.Layers, Layer{Digest: l.Digest, Size: l.Size})
		}
		image.Platforms = append(image.Platforms, out)
	}
	return image, nil
}

// canonical gives the one spelling of a reference.
func canonical(reference string) (string, error) {
	ref, err := imageref.Parse(reference)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", reference, err)
	}
	return ref.String(), nil
}

// ReadFile reads a lock file.
func ReadFile(path string) (File, error) {
	r, err := os.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("reading lock: %w", err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return File{}, fmt.Errorf("reading lock %s: %w", path, err)
	}
	if len(b) > maxFile {
		return File{}, fmt.Errorf("reading lock %s: longer than %d MiB", path, maxFile>>20)
	}
	f, err := Parse(b)
	if err != nil {
		return File{}, fmt.Errorf("reading lock %s: %w", path, err)
	}
	return f, nil
}

// Parse reads a lock, JSON or YAML. The error names the field that is wrong.
func Parse(b []byte) (File, error) {
	var f File
	if err := yaml.Unmarshal(b, &f); err != nil {
		return File{}, fmt.Errorf("not JSON or YAML of an %s: %w", Kind, err)
	}
	if f.APIVersion != APIVersion || f.Kind != Kind {
		return File{}, fmt.Errorf("apiVersion %q and kind %q are not those of a lock: they must be %s and %s, as registrycheck --lock writes them",
			f.APIVersion, f.Kind, APIVersion, Kind)
	}
	for i := range f.Images {
		if err := f.Images[i].check(); err != nil {
			return File{}, fmt.Errorf("images[%d]%w", i, err)
		}
	}
	f.sort()
	for i := 1; i < len(f.Images); i++ {
		if f.Images[i].Reference == f.Images[i-1].Reference {
			return File{}, fmt.Errorf("reference %s is there twice: remove one", f.Images[i].Reference)
		}
	}
	return f, nil
}

// check validates an image. Errors begin with the rest of the field's path.
func (i *Image) check() error {
	reference, err := canonical(i.Reference)
	if err != nil {
		return fmt.Errorf(".reference: %w", err)
	}
	i.Reference = reference
	if err := checkDigest(i.Digest); err != nil {
		return err
	}
	for n, p := range i.Platforms {
		if err := p.check(); err != nil {
			return fmt.Errorf(".platforms[%d]%w", n, err)
		}
	}
	return nil
}

func (p Platform) check() error {
	if _, err := platforms.Parse(p.Platform); err != nil {
		return fmt.Errorf(".platform: %q is no platform such as linux/arm64: %w", p.Platform, err)
	}
	if p.Size < 0 {
		return errors.New(".size: must not be below 0")
	}
	for i, l := range p.Layers {
		if err := checkDigest(l.Digest); err != nil {
			return fmt.Errorf(".layers[%d]%w", i, err)
		}
		if l.Size < 0 {
			return fmt.Errorf(".layers[%d].size: must not be below 0", i)
		}
	}
	return checkDigest(p.Digest)
}

func checkDigest(s string) error {
	if _, err := digest.Parse(s); err != nil {
		return fmt.Errorf(".digest: %q is no digest such as sha256:…: %w", s, err)
	}
	return nil
}

// Encode gives the file as it is written: indented JSON, so that a change of an image is
// a change of a few lines.
func (f File) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("encoding lock: %w", err)
	}
	return b.Bytes(), nil
}

// WriteFile replaces the file at path.
func (f File) WriteFile(path string) error {
	b, err := f.Encode()
	if err != nil {
		return err
	}
	if err := replace(path, b); err != nil {
		return fmt.Errorf("writing lock %s: %w", path, err)
	}
	return nil
}

// replace writes beside the file and renames: whoever reads meets the old or the new one.
func replace(path string, b []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(b)
	err = cmp.Or(err, tmp.Chmod(0o644))
	err = cmp.Or(err, tmp.Sync())
	err = cmp.Or(err, tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
