package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/product"
)

const (
	// posRepository and visionRepository are what docs/examples/imagecache.yaml names.
	posRepository    = "retail/pos:v3.2"
	visionRepository = "retail/vision:v1.7"
	// Sizes in bytes, and speeds in bytes per second of one connection: slow enough to
	// watch, and to be interrupted.
	posSize, visionSize = 8 << 20, 24 << 20
	walk, crawl         = 6 << 20, 1 << 20
	// patience bounds each wait.
	patience = 5 * time.Minute
)

// demo is the cluster and what is shown of it.
type demo struct {
	out     io.Writer
	step    int
	lab     *cluster.Cluster
	product *product.Product
	client  *versioned.Clientset
	pos     testimage.Pushed
	vision  testimage.Pushed
}

// run shows everything, and removes everything at the end.
func run(ctx context.Context, runtime string, out io.Writer) (err error) {
	kind, err := cluster.ParseRuntime(runtime)
	if err != nil {
		return err
	}
	d := &demo{out: out}
	defer func() { err = errors.Join(err, d.close()) }()
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return d.start(ctx, kind) },
		d.push, d.install, d.apply, d.look, d.cutOff, d.comeBack,
	}
	if kind == cluster.Containerd {
		steps = append(steps, d.startPod)
	}
	for _, s := range steps {
		if err := s(ctx); err != nil {
			return fmt.Errorf("step %d: %w", d.step, err)
		}
	}
	d.say("\nAll %d steps were verified. Everything the demo started is being removed.", d.step)
	return nil
}

func (d *demo) close() error {
	var err error
	if d.product != nil {
		err = d.product.Close()
	}
	if d.lab != nil {
		err = errors.Join(err, d.lab.Close())
	}
	return err
}

// headline begins a step: what happens, and why.
func (d *demo) headline(what, why string) {
	d.step++
	d.say("\n%d. %s\n   %s", d.step, what, why)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// verified closes a step.
func (d *demo) verified(format string, args ...any) { d.say("   ✓ "+format, args...) }

func (d *demo) start(ctx context.Context, kind cluster.Runtime) error {
	d.headline("Start a cluster: etcd, kube-apiserver, a registry, three nodes in two sites",
		"The programs are built on the first run, which takes a few minutes and happens once.")
	options := cluster.Options{Runtime: kind, Nodes: 3, Sites: 2, Out: indented{d.out}}
	if kind == cluster.Containerd {
		options.ControllerManager, options.Scheduler = &controlplane.ControllerManager{}, &controlplane.Scheduler{}
		options.PreloadPause = true
	}
	lab, err := cluster.Start(ctx, options)
	if err != nil {
		return err
	}
	d.lab = lab
	d.client, err = versioned.NewForConfig(lab.ControlPlane().Admin())
	if err != nil {
		return fmt.Errorf("making client: %w", err)
	}
	for _, n := range lab.Nodes() {
		d.verified("%s is Ready in %s", n.Name(), n.Site())
	}
	return nil
}

func (d *demo) push(ctx context.Context) error {
	d.headline("Push two generated images to the registry",
		"Nothing is pulled from the internet. Each is an index for amd64, arm64 and arm/v7.")
	spec := testimage.Spec{Layers: []testimage.Random{{Seed: 1, Size: posSize / 2}, {Seed: 2, Size: posSize / 2}}}
	if d.lab.Runtime() == cluster.Containerd {
		program, err := testimage.Hello.Build(ctx, d.lab.Tools(), "")
		if err != nil {
			return err
		}
		spec.Program = program
	}
	var err error
	if d.pos, err = d.pushIndex(ctx, posRepository, spec); err != nil {
		return err
	}
	d.vision, err = d.pushIndex(ctx, visionRepository, testimage.Spec{Layers: []testimage.Random{{Seed: 3, Size: visionSize}}})
	return err
}

func (d *demo) pushIndex(ctx context.Context, reference string, spec testimage.Spec) (testimage.Pushed, error) {
	var object testimage.Object
	object, err := testimage.Index(spec, testimage.Platforms()...)
	if spec.Program != "" { // a program runs on this machine only
		object, err = testimage.Image(spec)
	}
	if err != nil {
		return testimage.Pushed{}, err
	}
	pushed, err := d.lab.Push(ctx, reference, object)
	if err == nil {
		d.verified("%s is %s", reference, short(pushed.Digest))
	}
	return pushed, err
}

func (d *demo) install(ctx context.Context) error {
	d.headline("Install edgecache: three CRDs, one controller, one agent per node",
		"Each program runs with the rights of its service account and no others.")
	var err error
	if d.product, err = product.Run(ctx, d.lab); err != nil {
		return err
	}
	return d.await(ctx, "every agent reports", func() (bool, error) {
		objects, err := d.objects(ctx)
		reported := 0
		for _, o := range objects {
			if o.Status.ObservedGeneration > 0 {
				reported++
			}
		}
		return reported == len(d.lab.Nodes()), err
	})
}

func (d *demo) apply(ctx context.Context) error {
	file := filepath.Join("docs", "examples", "imagecache.yaml")
	d.headline("kubectl apply -f "+file,
		"pos is for every node, vision for the nodes of site-1. The controller looks both up and\n"+
			"   freezes each tag to one digest; the agents fetch. The registry is slowed down to watch it.")
	text, err := os.ReadFile(filepath.Join(d.lab.Tools().Root(), file))
	if err != nil {
		return fmt.Errorf("reading the example: %w", err)
	}
	if err := d.speed(ctx, walk); err != nil {
		return err
	}
	if _, err := d.lab.ControlPlane().Apply(ctx, text); err != nil {
		return err
	}
	last := ""
	return d.await(ctx, "ImageCache pos is Ready", func() (bool, error) {
		line, ready, err := d.progress(ctx)
		if line != last {
			d.say("   %s", line)
			last = line
		}
		return ready, err
	})
}

// look shows what a user sees, and compares it with what is on the nodes.
func (d *demo) look(ctx context.Context) error {
	d.headline("kubectl get imagecache,nodeimagecache", "What the API server says is compared with what is on the nodes.")
	if err := d.tables(ctx); err != nil {
		return err
	}
	for _, n := range d.lab.Nodes() {
		if err := d.expect(ctx, n, d.wanted(n)...); err != nil {
			return err
		}
		d.verified("%s holds %d images under their tags and digests", n.Name(), len(d.wanted(n)))
	}
	return nil
}

// wanted gives what the example asks a node to hold.
func (d *demo) wanted(n *node.Node) []testimage.Pushed {
	if n.Site() == "site-1" {
		return []testimage.Pushed{d.pos, d.vision}
	}
	return []testimage.Pushed{d.pos}
}

func (d *demo) cutOff(ctx context.Context) error {
	n := d.lab.Nodes()[1]
	d.headline("Stop the API server, then delete pos from "+n.Name()+" behind the agent's back",
		"This is what an edge node lives with: the link is down and something removes an image.\n"+
			"   The agent has the wish on disk and asks no server.")
	if err := d.lab.ControlPlane().StopAPIServer(); err != nil {
		return err
	}
	d.verified("the API server is stopped")
	if err := d.remove(ctx, n, d.pos); err != nil {
		return err
	}
	d.verified("pos is gone from %s", n.Name())
	began := time.Now()
	if err := d.await(ctx, "pos is back on "+n.Name(), func() (bool, error) { return d.holds(ctx, n, d.pos) }); err != nil {
		return err
	}
	d.say("     after %s, with no API server", time.Since(began).Round(100*time.Millisecond))
	return nil
}

func (d *demo) comeBack(ctx context.Context) error {
	n := d.lab.Nodes()[0]
	d.headline("Delete vision from "+n.Name()+", slow the registry down, start the API server",
		"The API server still believes that "+n.Name()+" holds both images. The agent tells it better.")
	if err := d.speed(ctx, crawl); err != nil {
		return err
	}
	if err := d.remove(ctx, n, d.vision); err != nil {
		return err
	}
	if err := d.lab.ControlPlane().StartAPIServer(ctx); err != nil {
		return err
	}
	d.verified("the API server is back")
	summary := func(want string) func() (bool, error) {
		return func() (bool, error) {
			o, err := d.object(ctx, n)
			return err == nil && o.Status.Summary.Cached == want, err
		}
	}
	if err := d.await(ctx, "the status says what is true: "+n.Name()+" holds 1 of 2 images", summary("1/2")); err != nil {
		return err
	}
	if err := d.tables(ctx); err != nil {
		return err
	}
	if err := d.speed(ctx, 0); err != nil {
		return err
	}
	if err := d.await(ctx, "the status catches up: "+n.Name()+" holds 2 of 2 images", summary("2/2")); err != nil {
		return err
	}
	if err := d.expect(ctx, n, d.wanted(n)...); err != nil {
		return err
	}
	return d.await(ctx, "ImageCache pos is Ready", func() (bool, error) {
		_, ready, err := d.progress(ctx)
		return ready, err
	})
}

func (d *demo) speed(ctx context.Context, bytesPerSecond int64) error {
	return d.lab.Registry().SetFaults(ctx, registry.Faults{BytesPerSecond: bytesPerSecond})
}

// await waits for a condition and says that it came true. Errors are tried again: the API
// server may just be starting.
func (d *demo) await(ctx context.Context, what string, holds func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := holds()
		if ok {
			d.verified("%s", what)
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("waited %s until %s", patience, what), err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (d *demo) objects(ctx context.Context) ([]v1alpha1.NodeImageCache, error) {
	list, err := d.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing NodeImageCaches: %w", err)
	}
	return list.Items, nil
}

func (d *demo) object(ctx context.Context, n *node.Node) (*v1alpha1.NodeImageCache, error) {
	o, err := d.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(ctx, n.Name(), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("getting NodeImageCache %s: %w", n.Name(), err)
	}
	return o, nil
}

// indented puts what the lab says below the step's headline.
type indented struct{ w io.Writer }

// Write writes each line with an indent.
func (i indented) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		if _, err := io.WriteString(i.w, "   "+line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func short(digest string) string {
	if len(digest) < 19 {
		return digest
	}
	return digest[:19] + "…"
}
