package testimage

import (
	"context"
	"fmt"

	"edgecache.dev/test/lab/toolchain"
)

// A Program is one of the programs that images can run.
type Program string

const (
	// Pause holds a pod's namespaces open: the image of sandboxes.
	Pause Program = "pause"
	// Hello prints a line and waits to be stopped. See its source for its arguments.
	Hello Program = "hello"
)

// Build compiles the program for goarch ("" is this machine's) and returns the path of the binary.
func (p Program) Build(ctx context.Context, tools *toolchain.Toolchain, goarch string) (string, error) {
	path, err := tools.Package(ctx, "testimage-"+string(p), "./test/lab/testimage/"+string(p), toolchain.Build{GOARCH: goarch})
	if err != nil {
		return "", fmt.Errorf("compiling the program of a test image: %w", err)
	}
	return path, nil
}
