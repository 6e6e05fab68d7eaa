package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
)

const imagesHelp = `Builds the binaries of cmd/ and packs each as a multi-arch OCI image.

Needs only Go and, for the version, git: no container runtime and no root. Each
image holds one static binary, the CA certificates of Mozilla's program and the
users root and nonroot. Images are written as OCI layouts, one folder each, which
skopeo, crane and regctl read; --push also sends them to a registry, with the
credentials of your docker configuration.

Building twice from the same commit gives the same digests. Times are those of
the commit, or SOURCE_DATE_EPOCH (seconds since 1970).`

const imagesExample = `  # all images for the usual platforms, into dist/images
  go run ./internal/release images

  # one image for this machine's lab
  go run ./internal/release images --platforms linux/amd64 edgecache-agent

  # load an image into the container runtime of this machine, without a registry
  tar -C dist/images/edgecache-agent -c . |
    ctr -n k8s.io image import --base-name registry.example/edgecache-agent -

  # release v0.1.0 to a registry
  go run ./internal/release images --version v0.1.0 --push registry.example/edgecache`

// order is what the user asked for.
type order struct {
	out       string
	push      string
	version   string
	platforms []string
	binaries  []string
	progress  io.Writer
	result    io.Writer
}

func newImagesCommand() *cobra.Command {
	var o order
	cmd := &cobra.Command{
		Use:     "images [binary...]",
		Short:   "Packs the binaries of cmd/ as multi-arch OCI images",
		Long:    imagesHelp,
		Example: imagesExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.binaries, o.progress, o.result = args, cmd.ErrOrStderr(), cmd.OutOrStdout()
			root, err := moduleRoot(cmd.Context())
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), root)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.out, "out", "dist/images", "folder for the OCI layouts, one folder per image; existing ones are replaced")
	flags.StringSliceVar(&o.platforms, "platforms", []string{"linux/amd64", "linux/arm64", "linux/arm/v7"}, "platforms to build for, as os/arch[/variant]")
	flags.StringVar(&o.version, "version", "", "version to stamp and to tag, as v1.2.3[-suffix] (default: git describe --tags)")
	flags.StringVar(&o.push, "push", "", "registry and path to push to: REPO/<binary>:<version>")
	return cmd
}

// moduleRoot finds the folder of go.mod, so that the command works from any folder.
func moduleRoot(ctx context.Context) (string, error) {
	file, err := output(ctx, ".", "go", "env", "GOMOD")
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	if file == "" || file == os.DevNull {
		return "", errors.New("finding the module: not inside a Go module: run it in a checkout of edgecache")
	}
	return filepath.Dir(file), nil
}

// result is one finished image.
type result struct {
	name   string
	index  v1.Hash
	builds []build
	pushed string // reference, "" when not pushed
}

func (o order) run(ctx context.Context, root string) error {
	targets, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	binaries, err := findBinaries(ctx, root, o.binaries)
	if err != nil {
		return err
	}
	stamp, err := readStamp(ctx, root, o.version)
	if err != nil {
		return err
	}
	for _, bin := range binaries { // said before minutes of building
		if err := replaceable(filepath.Join(o.out, bin.name)); err != nil {
			return err
		}
	}
	scratch, err := os.MkdirTemp("", "edgecache-release-")
	if err != nil {
		return fmt.Errorf("making a folder to build in: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	fmt.Fprintf(o.progress, "version %s, commit %s, %d images for %s\n",
		stamp.version, stamp.commit, len(binaries), strings.Join(o.platforms, ", "))
	b := builder{root: root, scratch: scratch, stamp: stamp, progress: o.progress}
	var results []result
	for i, bin := range binaries {
		fmt.Fprintf(o.progress, "[%d/%d] %s\n", i+1, len(binaries), bin.name)
		r, err := o.image(ctx, b, bin, targets)
		if err != nil {
			return fmt.Errorf("image %s: %w", bin.name, err)
		}
		results = append(results, r)
	}
	return printTable(o.result, results)
}

// image builds, packs, writes and pushes one image.
func (o order) image(ctx context.Context, b builder, bin binary, targets []platforms.Platform) (result, error) {
	r := result{name: bin.name}
	for _, target := range targets {
		done, err := b.build(ctx, bin, target)
		if err != nil {
			return r, fmt.Errorf("for %s: %w", platforms.Format(target), err)
		}
		r.builds = append(r.builds, done)
	}
	index, err := packIndex(bin, b.stamp, r.builds)
	if err != nil {
		return r, err
	}
	if r.index, err = index.Digest(); err != nil {
		return r, fmt.Errorf("reading digest: %w", err)
	}
	folder := filepath.Join(o.out, bin.name)
	if err := writeLayout(folder, b.stamp.version, index); err != nil {
		return r, fmt.Errorf("writing %s: %w", folder, err)
	}
	fmt.Fprintf(o.progress, "  wrote %s\n", folder)
	if o.push == "" {
		return r, nil
	}
	r.pushed = strings.TrimSuffix(o.push, "/") + "/" + bin.name + ":" + b.stamp.version
	fmt.Fprintf(o.progress, "  pushing %s\n", r.pushed)
	return r, push(ctx, r.pushed, index)
}

// parsePlatforms reads os/arch[/variant].
func parsePlatforms(list []string) ([]platforms.Platform, error) {
	var out []platforms.Platform
	seen := map[string]bool{}
	for _, s := range list {
		p, err := platforms.Parse(s)
		if err != nil || strings.Count(s, "/") == 0 {
			return nil, fmt.Errorf("platform %q: write it as os/arch[/variant], such as linux/arm/v7", s)
		}
		p = platforms.Normalize(p) // linux/arm is linux/arm/v7
		if p.OS != "linux" {
			return nil, fmt.Errorf("platform %q: images are built for linux only", s)
		}
		if seen[platforms.Format(p)] {
			return nil, fmt.Errorf("platform %q: given twice", s)
		}
		seen[platforms.Format(p)] = true
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, errors.New("no platform given: name at least one, such as --platforms linux/amd64")
	}
	return out, nil
}

// printTable lists each platform's image and the index that joins them.
func printTable(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tPLATFORM\tSIZE\tDIGEST")
	for _, r := range results {
		for _, b := range r.builds {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.name, platforms.Format(b.platform), megabytes(b.size), b.digest)
		}
		fmt.Fprintf(t, "%s\tall\t\t%s\n", r.name, r.index)
	}
	for _, r := range results {
		if r.pushed != "" {
			fmt.Fprintf(t, "pushed %s@%s\n", r.pushed, r.index)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("printing results: %w", err)
	}
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
