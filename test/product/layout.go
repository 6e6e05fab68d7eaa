package product

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/test/lab/node"
)

// LayoutDir is where the agent of a node keeps images without a runtime.
func LayoutDir(n *node.Node) string { return filepath.Join(StateDir(n), "images") }

func blobDir(n *node.Node) string { return filepath.Join(LayoutDir(n), "blobs", "sha256") }

// LayoutNames reads what a node's image layout holds: name to digest, of those whose blob
// is there. A layout that is not there holds nothing.
func LayoutNames(n *node.Node) (map[string]string, error) { return NamesIn(LayoutDir(n)) }

// NamesIn is LayoutNames for an image layout in any directory.
func NamesIn(dir string) (map[string]string, error) {
	index, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, m := range index.Manifests {
		if _, err := os.Stat(filepath.Join(dir, "blobs", "sha256", m.Digest.Encoded())); err == nil {
			names[m.Annotations[ocispec.AnnotationRefName]] = m.Digest.String()
		}
	}
	return names, nil
}

func readIndex(dir string) (ocispec.Index, error) {
	var index ocispec.Index
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if errors.Is(err, os.ErrNotExist) {
		return index, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil {
		return index, fmt.Errorf("reading the image layout in %s: %w", dir, err)
	}
	return index, nil
}

// EmptyLayout removes every name and blob from a node's image layout, as by hand.
func EmptyLayout(n *node.Node) error {
	return errors.Join(os.Remove(filepath.Join(LayoutDir(n), "index.json")), os.RemoveAll(blobDir(n)))
}

// RemoveFromLayout removes an image's names and blobs, as by hand. Blobs that it shares
// with other images go too.
func RemoveFromLayout(n *node.Node, digest string) error {
	index, err := readIndex(LayoutDir(n))
	if err != nil {
		return err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool { return m.Digest.String() == digest })
	b, err := json.Marshal(index)
	if err == nil {
		err = os.WriteFile(filepath.Join(LayoutDir(n), "index.json"), b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the image layout of %s: %w", n.Name(), err)
	}
	return removeBlobs(blobDir(n), digest)
}

// removeBlobs removes a blob and all that it refers to.
func removeBlobs(dir, digest string) error {
	path := filepath.Join(dir, strings.TrimPrefix(digest, "sha256:"))
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // of another platform
	}
	if err != nil {
		return fmt.Errorf("reading blob %s: %w", digest, err)
	}
	var refers struct {
		Manifests, Layers []ocispec.Descriptor
		Config            ocispec.Descriptor
	}
	if json.Unmarshal(b, &refers) == nil { // layers are no JSON and refer to nothing
		for _, d := range slices.Concat(refers.Manifests, refers.Layers, []ocispec.Descriptor{refers.Config}) {
			if d.Digest != "" {
				err = errors.Join(err, removeBlobs(dir, d.Digest.String()))
			}
		}
	}
	return errors.Join(err, os.Remove(path))
}
