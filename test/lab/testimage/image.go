package testimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// programPath is where an image's program lies and what its containers run.
const programPath = "/app"

// A Spec says what an image consists of.
type Spec struct {
	// Platform is what the image says it is for; the zero value is Linux on this machine's processor.
	Platform v1.Platform
	// Program is the path of a static binary that containers run; empty makes an image that cannot run.
	Program string
	// Args are the program's arguments.
	Args []string
	// Layers come after the program's.
	Layers []Random
	// Labels go into the image's configuration; a different label makes a different image of the same layers.
	Labels map[string]string
}

// Host returns the platform of this machine.
func Host() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// Image makes an image.
func Image(s Spec) (v1.Image, error) {
	layers, err := s.layers()
	if err != nil {
		return nil, err
	}
	base := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	base = mutate.ConfigMediaType(base, types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		return nil, fmt.Errorf("making an image: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("making an image: %w", err)
	}
	if image, err = mutate.ConfigFile(image, s.config(config.DeepCopy())); err != nil {
		return nil, fmt.Errorf("making an image: %w", err)
	}
	return image, nil
}

// config completes an image's configuration.
func (s Spec) config(c *v1.ConfigFile) *v1.ConfigFile {
	platform := s.Platform
	if platform.OS == "" {
		platform = Host()
	}
	c.OS, c.Architecture, c.Variant = platform.OS, platform.Architecture, platform.Variant
	c.Created = v1.Time{Time: time.Unix(0, 0)}
	c.Config.Labels = s.Labels
	if s.Program != "" {
		c.Config.Entrypoint, c.Config.Cmd = []string{programPath}, s.Args
	}
	return c
}

func (s Spec) layers() ([]v1.Layer, error) {
	var layers []v1.Layer
	if s.Program != "" {
		layer, err := programLayer(s.Program)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	for _, r := range s.Layers {
		layer, err := r.Layer()
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

func programLayer(path string) (v1.Layer, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the image's program: %w", err)
	}
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	if err := writeFile(archive, programPath[1:], 0o755, int64(len(program)), bytes.NewReader(program)); err != nil {
		return nil, fmt.Errorf("packing the image's program: %w", err)
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("packing the image's program: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithMediaType(types.OCILayer))
}

// Platforms are those of the lab's multi-platform images: this machine's among them on any usual one.
func Platforms() []v1.Platform {
	return []v1.Platform{
		{OS: "linux", Architecture: "amd64"},
		{OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "linux", Architecture: "arm", Variant: "v7"},
	}
}

// Index makes a multi-platform image: one image per platform, alike but for the seeds of its layers. A program is only
// right for the platform it was compiled for.
func Index(s Spec, platforms ...v1.Platform) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, platform := range platforms {
		one := s
		one.Platform = platform
		one.Layers = make([]Random, len(s.Layers))
		for j, r := range s.Layers {
			one.Layers[j] = Random{Seed: r.Seed + uint64(i)<<32, Size: r.Size}
		}
		image, err := Image(one)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &platform},
		})
	}
	return index, nil
}
