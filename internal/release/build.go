package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// builder compiles binaries and packs each as the image of one platform.
type builder struct {
	root     string // the module
	scratch  string // a folder of ours, removed at the end
	stamp    stamp
	progress io.Writer
}

// build is one binary's image for one platform.
type build struct {
	platform platforms.Platform
	image    v1.Image
	digest   v1.Hash
	size     int64 // bytes that a node downloads: manifest, configuration and layer
}

// build compiles and packs.
func (b builder) build(ctx context.Context, bin binary, target platforms.Platform) (build, error) {
	begin := time.Now()
	dir := filepath.Join(b.scratch, bin.name+"-"+strings.ReplaceAll(platforms.Format(target), "/", "-"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return build{}, fmt.Errorf("making a folder to build in: %w", err)
	}
	program := filepath.Join(dir, bin.name)
	if err := b.compile(ctx, bin, target, program); err != nil {
		return build{}, err
	}
	image, err := packImage(bin, b.stamp, target, program)
	if err != nil {
		return build{}, fmt.Errorf("packing: %w", err)
	}
	done := build{platform: target, image: image}
	if done.digest, err = image.Digest(); err != nil {
		return build{}, fmt.Errorf("reading digest: %w", err)
	}
	if done.size, err = downloadSize(image); err != nil {
		return build{}, fmt.Errorf("reading size: %w", err)
	}
	fmt.Fprintf(b.progress, "  %s built in %s, %s\n",
		platforms.Format(target), time.Since(begin).Round(100*time.Millisecond), megabytes(done.size))
	return done, nil
}

// compile makes a static binary that is the same wherever it is built.
func (b builder) compile(ctx context.Context, bin binary, target platforms.Platform, to string) error {
	ldflags, err := b.stamp.ldflags(bin)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", to, "./cmd/"+bin.name)
	var complaints bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.root, &complaints, &complaints
	cmd.Env = append(os.Environ(), environment(target)...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running go build ./cmd/%s: %w\n%s", bin.name, err, strings.TrimSpace(complaints.String()))
	}
	return nil
}

// environment tells the go command the platform. Every variable that changes the code is
// set, so that the caller's own ones do not.
func environment(p platforms.Platform) []string {
	env := []string{
		"CGO_ENABLED=0",
		"GOOS=" + p.OS,
		"GOARCH=" + p.Architecture,
		"GOFLAGS=",
		"GOEXPERIMENT=",
		"GOAMD64=v1",
		"GOARM64=v8.0",
		"GOARM=7",
	}
	switch {
	case p.Architecture == "arm" && p.Variant != "":
		env = append(env, "GOARM="+strings.TrimPrefix(p.Variant, "v"))
	case p.Architecture == "amd64" && p.Variant != "":
		env = append(env, "GOAMD64="+p.Variant)
	case p.Architecture == "arm64" && p.Variant != "":
		env = append(env, "GOARM64="+arm64Level(p.Variant))
	}
	return env
}

// arm64Level gives Go's spelling: v9 is v9.0.
func arm64Level(variant string) string {
	if strings.Contains(variant, ".") {
		return variant
	}
	return variant + ".0"
}

// downloadSize adds up what a pull transfers.
func downloadSize(image v1.Image) (int64, error) {
	size, err := image.Size()
	if err != nil {
		return 0, err
	}
	m, err := image.Manifest()
	if err != nil {
		return 0, err
	}
	size += m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size, nil
}
