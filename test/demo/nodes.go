package main

import (
	"context"
	"fmt"
	"strings"

	"edgecache.dev/test/lab/machine"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/product"
)

// namesOf gives the names under which pods find an image of the example.
func namesOf(p testimage.Pushed) []string {
	_, path, _ := strings.Cut(p.Name, "/")
	repository, _, _ := strings.Cut(path, ":")
	return []string{product.ExampleRegistry + "/" + path, product.ExampleRegistry + "/" + repository + "@" + p.Digest}
}

// expect fails unless a node holds images under all their names.
func (d *demo) expect(ctx context.Context, n *node.Node, images ...testimage.Pushed) error {
	for _, p := range images {
		ok, err := d.holds(ctx, n, p)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s does not hold %s", n.Name(), p.Name)
		}
	}
	return nil
}

// holds looks at the node itself: the names, the digest, and that the blobs are there.
func (d *demo) holds(ctx context.Context, n *node.Node, p testimage.Pushed) (bool, error) {
	held, err := d.names(ctx, n)
	if err != nil {
		return false, err
	}
	for _, name := range namesOf(p) {
		if held[name] != p.Digest {
			return false, nil
		}
	}
	return true, nil
}

// names gives the images that a node holds, by name.
func (d *demo) names(ctx context.Context, n *node.Node) (map[string]string, error) {
	if m, ok := n.Host().(*machine.Machine); ok {
		return ctrNames(ctx, d.lab.Tools().Path("ctr"), m)
	}
	return product.LayoutNames(n)
}

// ctrNames asks containerd.
func ctrNames(ctx context.Context, ctr string, m *machine.Machine) (map[string]string, error) {
	out, err := m.Exec(ctx, ctr, "-n", "k8s.io", "images", "ls")
	if err != nil {
		return nil, fmt.Errorf("listing images in containerd: %w", err)
	}
	held := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(f[2], "sha256:") {
			held[f[0]] = f[2]
		}
	}
	return held, nil
}

// ctrRemove removes every name that containerd has for a digest, the one that CRI made for
// the image's id too: then the content goes.
func ctrRemove(ctx context.Context, ctr string, m *machine.Machine, digest string) error {
	held, err := ctrNames(ctx, ctr, m)
	if err != nil {
		return err
	}
	argv := []string{ctr, "-n", "k8s.io", "images", "rm", "--sync"}
	for name, d := range held {
		if d == digest {
			argv = append(argv, name)
		}
	}
	if _, err := m.Exec(ctx, argv...); err != nil {
		return fmt.Errorf("removing an image in containerd: %w", err)
	}
	return nil
}

// remove deletes an image from a node as somebody would who logs in there.
func (d *demo) remove(ctx context.Context, n *node.Node, p testimage.Pushed) error {
	if m, ok := n.Host().(*machine.Machine); ok {
		return ctrRemove(ctx, d.lab.Tools().Path("ctr"), m, p.Digest)
	}
	return product.RemoveFromLayout(n, p.Digest)
}
