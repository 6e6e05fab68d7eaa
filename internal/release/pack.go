package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Accounts of the images. nonroot has the number that distroless images use.
const (
	passwd = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n" //nolint:gosec // no password in it
	group  = "root:x:0:\nnonroot:x:65532:\n"
)

// binDir is where the binary stands in its image.
const binDir = "usr/local/bin"

// entry is a file or folder of the layer.
type entry struct {
	name string // without a leading slash; folders end with one
	mode int64
	data []byte // nil for the binary, which is copied from its file
}

// entries lists the layer in its order, parents first.
func entries(b binary) []entry {
	return []entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, data: []byte(group)},
		{name: "etc/passwd", mode: 0o644, data: []byte(passwd)},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: rootCertificates()},
		{name: "home/", mode: 0o755},
		{name: "home/nonroot/", mode: 0o755},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/local/", mode: 0o755},
		{name: binDir + "/", mode: 0o755},
		{name: binDir + "/" + b.name, mode: 0o755},
	}
}

// rootCertificates gives Mozilla's CAs as PEM. Those that Mozilla trusts only for
// certificates issued before some date are left out: PEM cannot say that.
func rootCertificates() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil || root.Constraint != nil {
			continue
		}
		fmt.Fprintf(&out, "# %s\n", cert.Subject)
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // to memory
	}
	return out.Bytes()
}

// packImage makes the image of one platform around a binary's file. The layer's tar
// stands beside that file and has to stay as long as the image is used.
func packImage(b binary, s stamp, target platforms.Platform, program string) (v1.Image, error) {
	file := program + ".tar"
	if err := writeTar(file, b, s, program); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromFile(file,
		tarball.WithMediaType(types.OCILayer),
		tarball.WithCompressionLevel(gzip.BestCompression),
		tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("making the layer: %w", err)
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS:           target.OS,
		Architecture: target.Architecture,
		Variant:      target.Variant,
		Created:      v1.Time{Time: s.time},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       b.user,
			Env:        []string{"PATH=/" + binDir},
			Entrypoint: []string{"/" + binDir + "/" + b.name},
			WorkingDir: "/",
			Labels:     annotations(b, s),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making the configuration: %w", err)
	}
	image, err = mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: s.time}, CreatedBy: "edgecache release images", Comment: b.name + " " + s.version},
	})
	if err != nil {
		return nil, fmt.Errorf("adding the layer: %w", err)
	}
	return annotate(image, b, s)
}

// annotations are the same on the index, the manifests and, as labels, in the
// configuration: tools look in different places.
func annotations(b binary, s stamp) map[string]string {
	out := map[string]string{
		"org.opencontainers.image.title":    b.name,
		"org.opencontainers.image.version":  s.version,
		"org.opencontainers.image.revision": s.commit,
		"org.opencontainers.image.created":  s.time.Format("2006-01-02T15:04:05Z"),
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.vendor":   "edgecache",
	}
	if b.description != "" {
		out["org.opencontainers.image.description"] = b.description
	}
	return out
}

// annotate adds the annotations to an image or an index.
func annotate[T partial.WithRawManifest](what T, b binary, s stamp) (T, error) {
	out, ok := mutate.Annotations(what, annotations(b, s)).(T)
	if !ok {
		return what, fmt.Errorf("adding annotations: got another kind than %T", what)
	}
	return out, nil
}

// writeTar writes the layer. Everything that could differ between two builds is fixed:
// order, owner, mode, time and format.
func writeTar(file string, b binary, s stamp, program string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("making the layer's file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	for _, e := range entries(b) {
		if err := writeEntry(w, e, s, program); err != nil {
			return fmt.Errorf("adding %s: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("ending the layer: %w", err)
	}
	return nil
}

func writeEntry(w *tar.Writer, e entry, s stamp, program string) error {
	h := &tar.Header{Name: e.name, Mode: e.mode, ModTime: s.time, Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Size: int64(len(e.data))}
	if e.name[len(e.name)-1] == '/' {
		h.Typeflag = tar.TypeDir
		return w.WriteHeader(h)
	}
	if e.data != nil {
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(e.data)
		return err
	}
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size = info.Size()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// packIndex joins the platforms of one image.
func packIndex(b binary, s stamp, builds []build) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, one := range builds {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: one.image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{
				OS:           one.platform.OS,
				Architecture: one.platform.Architecture,
				Variant:      one.platform.Variant,
			}},
		})
	}
	return annotate(index, b, s)
}

// replaceable says whether the folder is absent, empty or an OCI layout. Anything else
// stays: --out may have been mistyped.
func replaceable(folder string) error {
	old, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(old) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at what is there: %w", err)
	}
	if _, err := os.Stat(filepath.Join(folder, "oci-layout")); err != nil {
		return fmt.Errorf("%s: folder exists and is no OCI layout: remove it, or choose another --out", folder)
	}
	return nil
}

// writeLayout replaces the folder by an OCI layout with the index under a tag.
func writeLayout(folder, tag string, index v1.ImageIndex) error {
	if err := replaceable(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil { //nolint:gosec // images are for everybody
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(folder), "."+filepath.Base(folder)+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	if err := os.Chmod(fresh, 0o755); err != nil { //nolint:gosec // images are for everybody
		return err
	}
	path, err := layout.Write(fresh, empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})); err != nil {
		return err
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	return os.Rename(fresh, folder)
}

// push sends the index and all of its platforms.
func push(ctx context.Context, to string, index v1.ImageIndex) error {
	ref, err := name.NewTag(to)
	if err != nil {
		return fmt.Errorf("pushing: %w", err)
	}
	err = remote.WriteIndex(ref, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return fmt.Errorf("pushing %s: %w", to, err)
	}
	return nil
}
