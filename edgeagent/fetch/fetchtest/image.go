package fetchtest

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// Layer gives a layer with one incompressible file of size bytes, determined by seed.
func Layer(tb testing.TB, seed, size int64) v1.Layer {
	tb.Helper()
	key := [32]byte{}
	binary.BigEndian.PutUint64(key[:], uint64(seed))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file-%d", seed), Size: size, Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.CopyN(w, rand.NewChaCha8(key), size); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// Image gives an image for a platform ("linux/arm64/v8") of the given layers.
func Image(tb testing.TB, platform string, layers ...v1.Layer) v1.Image {
	tb.Helper()
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layers...)
	if err != nil {
		tb.Fatal(err)
	}
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		tb.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		tb.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Variant = p.OS, p.Architecture, p.Variant
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		tb.Fatal(err)
	}
	return img
}

// Index gives an index of images, each under the platform of its config, followed by an
// attestation as docker build adds it.
func Index(tb testing.TB, imgs ...v1.Image) v1.ImageIndex {
	tb.Helper()
	adds := make([]mutate.IndexAddendum, 0, len(imgs)+1)
	for _, img := range imgs {
		cfg, err := img.ConfigFile()
		if err != nil {
			tb.Fatal(err)
		}
		adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant},
		}})
	}
	adds = append(adds, mutate.IndexAddendum{Add: Image(tb, "unknown/unknown", Layer(tb, 999, 100)), Descriptor: v1.Descriptor{
		Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
		Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"},
	}})
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), adds...)
}

// Digest gives the digest of an image, index or layer.
func Digest(tb testing.TB, d interface{ Digest() (v1.Hash, error) }) digest.Digest {
	tb.Helper()
	h, err := d.Digest()
	if err != nil {
		tb.Fatal(err)
	}
	return digest.Digest(h.String())
}

// ConfigDigest gives the digest of an image's config: its ID.
func ConfigDigest(tb testing.TB, img v1.Image) digest.Digest {
	tb.Helper()
	h, err := img.ConfigName()
	if err != nil {
		tb.Fatal(err)
	}
	return digest.Digest(h.String())
}

// Size gives what must be fetched of an image: manifest, config and layers in bytes, each
// blob once.
func Size(tb testing.TB, img v1.Image) int64 {
	tb.Helper()
	m, err := img.Manifest()
	if err != nil {
		tb.Fatal(err)
	}
	size, err := img.Size()
	if err != nil {
		tb.Fatal(err)
	}
	size += m.Config.Size
	seen := map[v1.Hash]bool{}
	for _, l := range m.Layers {
		if !seen[l.Digest] {
			size += l.Size
		}
		seen[l.Digest] = true
	}
	return size
}

// Blobs gives the digests of config and layers of an image.
func Blobs(tb testing.TB, img v1.Image) []digest.Digest {
	tb.Helper()
	m, err := img.Manifest()
	if err != nil {
		tb.Fatal(err)
	}
	out := []digest.Digest{digest.Digest(m.Config.Digest.String())}
	for _, l := range m.Layers {
		out = append(out, digest.Digest(l.Digest.String()))
	}
	return out
}
