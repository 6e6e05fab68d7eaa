package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/internal/pause"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/machine"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/product"
)

const (
	// linkSize is one layer of 200 MB, linkSpeed 2 MB/s.
	linkSize, linkSpeed = 200_000_000, 2_000_000
	// The control is what a kubelet does, with shorter pauses: PullImage again and again.
	plainAttempts, plainPause = 15, 3 * time.Second
)

// badLinks are the ways in which the link of a node fails, again and again.
var badLinks = []struct {
	name     string
	up, down time.Duration
	fail     func(ctx context.Context, lab *cluster.Cluster) error
	mend     func(ctx context.Context, lab *cluster.Cluster) error
}{
	{"is silently down 5 s of every 25", 20 * time.Second, 5 * time.Second, silence, unsilence},
	{"drops every connection each 20 s and refuses new ones for 5 s", 20 * time.Second, 5 * time.Second, refuse, accept},
}

func silence(ctx context.Context, lab *cluster.Cluster) error {
	m, err := firstMachine(lab)
	if err != nil {
		return err
	}
	return m.Link().Down(ctx)
}

func unsilence(ctx context.Context, lab *cluster.Cluster) error {
	m, err := firstMachine(lab)
	if err != nil {
		return err
	}
	return m.Link().Up(ctx)
}

func refuse(ctx context.Context, lab *cluster.Cluster) error {
	return lab.Registry().SetFaults(ctx, registry.Faults{Refuse: true})
}

func accept(ctx context.Context, lab *cluster.Cluster) error {
	return lab.Registry().SetFaults(ctx, registry.Faults{BytesPerSecond: linkSpeed})
}

// firstMachine is the machine of the lab's only node.
func firstMachine(lab *cluster.Cluster) (*machine.Machine, error) {
	m, ok := lab.Nodes()[0].Host().(*machine.Machine)
	if !ok {
		return nil, errors.New("the node is no machine")
	}
	return m, nil
}

// badLink pulls one image over links that fail, with each driver and with plain CRI.
func badLink(ctx context.Context) ([]row, error) {
	var rows []row
	for i := range badLinks {
		how := badLinks[i].name
		plain, ended, err := overBadLink(ctx, i, plainPull)
		if err != nil {
			return nil, fmt.Errorf("plain CRI over a link that %s: %w", how, err)
		}
		control := fmt.Sprintf("CRI PullImage, up to %d times: %.2f × the image, %s", plainAttempts, plain, map[bool]string{true: "pulled", false: "never pulled"}[ended])
		for _, driver := range []string{"containerd", "cri"} {
			ours, _, err := overBadLink(ctx, i, func(ctx context.Context, lab *cluster.Cluster, image string) (bool, error) {
				return agentPull(ctx, lab, image, "--runtime", driver)
			})
			if err != nil {
				return nil, fmt.Errorf("driver %s over a link that %s: %w", driver, how, err)
			}
			rows = append(rows, row{
				fmt.Sprintf("bytes fetched over a link that %s, driver %s", how, driver),
				fmt.Sprintf("%.3f × the image, pulled", ours), control, fmt.Sprintf("%.3f", ours/plain),
			})
		}
	}
	return rows, nil
}

// pull pulls an image on the lab's only node and says whether that ended well.
type pull func(ctx context.Context, lab *cluster.Cluster, image string) (bool, error)

// overBadLink gives the bytes that a pull took, as a multiple of the image's.
func overBadLink(ctx context.Context, link int, p pull) (times float64, ended bool, err error) {
	lab, err := cluster.Start(ctx, cluster.Options{Runtime: cluster.Containerd, Nodes: 1, PreloadPause: true})
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	pushed, err := push(ctx, lab, "bench/large:v1", linkSize, 1)
	if err != nil {
		return 0, false, err
	}
	linkCtx, restore := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var linkErr error
	wg.Go(func() { linkErr = flap(linkCtx, lab, link) })
	begun := time.Now()
	ended, err = p(ctx, lab, pushed.Name)
	took := time.Since(begun)
	restore()
	wg.Wait()
	times = float64(lab.Registry().Requests().Blobs().BlobBytes()) / linkSize
	fmt.Fprintf(os.Stderr, "  a link that %s: %.3f × the image in %s, pulled %t\n", badLinks[link].name, times, took.Round(time.Second), ended)
	return times, ended, errors.Join(err, linkErr)
}

// flap lets the link fail until the context ends, and leaves it mended.
func flap(ctx context.Context, lab *cluster.Cluster, link int) error {
	how := &badLinks[link]
	defer func() { _ = how.mend(context.WithoutCancel(ctx), lab) }() // the lab ends next, and says so if it cannot
	if err := accept(ctx, lab); err != nil {
		return err
	}
	for {
		if !pause.For(ctx, how.up) {
			return nil
		}
		if err := how.fail(ctx, lab); err != nil && ctx.Err() == nil {
			return err
		}
		pause.For(ctx, how.down)
		if err := how.mend(ctx, lab); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func agentPull(ctx context.Context, lab *cluster.Cluster, image string, args ...string) (ok bool, err error) {
	p, err := product.Run(ctx, lab, args...)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	client, err := versioned.NewForConfig(lab.ControlPlane().Admin())
	if err != nil {
		return false, fmt.Errorf("making client: %w", err)
	}
	if err := apply(ctx, lab, []string{image}); err != nil {
		return false, err
	}
	return true, untilReady(ctx, client, 1)
}

func plainPull(ctx context.Context, lab *cluster.Cluster, image string) (bool, error) {
	m, err := firstMachine(lab)
	if err != nil {
		return false, err
	}
	conn, err := grpc.NewClient("unix://"+m.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return false, fmt.Errorf("connecting to containerd: %w", err)
	}
	defer func() { _ = conn.Close() }()
	images := cri.NewImageServiceClient(conn)
	for range plainAttempts {
		if _, err := images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}}); err == nil {
			return true, nil
		}
		time.Sleep(plainPause)
	}
	return false, nil
}
