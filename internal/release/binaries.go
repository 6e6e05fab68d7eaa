package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Users of the images, by number because Kubernetes' runAsNonRoot cannot see names.
const (
	rootUser    = "0:0"
	nonrootUser = "65532:65532"
)

// binary is one program of cmd/ and how its image differs from the others.
type binary struct {
	name        string
	description string
	// user is "uid:gid".
	user string
	// kubernetes says that the program is built from a component of Kubernetes, whose
	// feature gates go by the version that it is stamped with.
	kubernetes bool
}

// catalog describes the binaries that differ from the default: user nonroot, no
// description.
func catalog() map[string]binary {
	return map[string]binary{
		"edgecache-controller": {description: "Turns ImageCaches into what each node should hold"},
		"edgecache-agent": {
			description: "Keeps a node's container images as the controller asks, also without a network",
			// The runtime's socket and content belong to root.
			user: rootUser,
		},
		"edgecache-scheduler": {
			description: "kube-scheduler that places pods where their images are",
			kubernetes:  true,
		},
		"registrycheck":      {description: "Says whether every image of an upgrade can be pulled"},
		"edgecache-bundle":   {description: "Carries container images to places without a network"},
		"kubectl-imagecache": {description: "kubectl plugin for ImageCaches"},
	}
}

// findBinaries gives the main packages in the folders of cmd/, or those that are named.
func findBinaries(ctx context.Context, root string, names []string) ([]binary, error) {
	all, err := mainPackages(ctx, root)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no main package in a folder of %s: nothing to pack", filepath.Join(root, "cmd"))
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(all))
	}
	var out []binary
	for _, name := range names {
		b, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("binary %q is not a main package in cmd/; there are %s",
				name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
		out = append(out, b)
	}
	return slices.CompactFunc(out, func(a, b binary) bool { return a.name == b.name }), nil
}

// mainPackages asks the go command, which knows build constraints. Folders deeper in
// cmd/ belong to those above them.
func mainPackages(ctx context.Context, root string) (map[string]binary, error) {
	if _, err := os.Stat(filepath.Join(root, "cmd")); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	list, err := output(ctx, root, "go", "list", "-e", "-f", "{{.Name}} {{.Dir}}", "./cmd/...")
	if err != nil {
		return nil, fmt.Errorf("listing the packages in cmd/: %w", err)
	}
	known, found := catalog(), map[string]binary{}
	for line := range strings.Lines(list) {
		pkg, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pkg != "main" || filepath.Base(filepath.Dir(dir)) != "cmd" {
			continue
		}
		b := known[filepath.Base(dir)]
		b.name = filepath.Base(dir)
		if b.user == "" {
			b.user = nonrootUser
		}
		found[b.name] = b
	}
	return found, nil
}
