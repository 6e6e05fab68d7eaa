package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/machine"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/product"
)

const (
	// linkSize is one layer of 30 MB; linkSpeed 2 MB/s; the link works for linkUp, then
	// drops every connection and stays down for linkDown.
	linkSize, linkSpeed = 30_000_000, 2_000_000
	linkUp, linkDown    = 5 * time.Second, 2 * time.Second
	// The control is what a kubelet does, with shorter pauses: PullImage again and again.
	plainAttempts, plainPause = 12, 3 * time.Second
)

// badLink pulls one image over a link that drops, with each driver and with plain CRI.
func badLink(ctx context.Context) ([]row, error) {
	plain, ended, err := overBadLink(ctx, plainPull)
	if err != nil {
		return nil, err
	}
	control := fmt.Sprintf("CRI PullImage × %d: %.2f × the image, %s", plainAttempts, plain, map[bool]string{true: "pulled", false: "never pulled"}[ended])
	var rows []row
	for _, driver := range []string{"containerd", "cri"} {
		ours, _, err := overBadLink(ctx, func(ctx context.Context, lab *cluster.Cluster, image string) (bool, error) {
			return agentPull(ctx, lab, image, "--runtime", driver)
		})
		if err != nil {
			return nil, fmt.Errorf("driver %s: %w", driver, err)
		}
		rows = append(rows, row{
			fmt.Sprintf("bytes fetched over a link that drops every %s, driver %s", linkUp, driver),
			fmt.Sprintf("%.3f × the image, pulled", ours), control, fmt.Sprintf("%.3f", ours/plain),
		})
	}
	return rows, nil
}

// pull pulls an image on the lab's only node and says whether that ended well.
type pull func(ctx context.Context, lab *cluster.Cluster, image string) (bool, error)

// overBadLink gives the bytes that a pull took, as a multiple of the image's.
func overBadLink(ctx context.Context, p pull) (times float64, ended bool, err error) {
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
	wg.Go(func() { linkErr = flap(linkCtx, lab.Registry()) })
	ended, err = p(ctx, lab, pushed.Name)
	restore()
	wg.Wait()
	return float64(lab.Registry().Requests().Blobs().BlobBytes()) / linkSize, ended, errors.Join(err, linkErr)
}

// flap lets the link drop until the context ends.
func flap(ctx context.Context, r *registry.Registry) error {
	for ctx.Err() == nil {
		for _, phase := range []struct {
			faults registry.Faults
			lasts  time.Duration
		}{{registry.Faults{BytesPerSecond: linkSpeed}, linkUp}, {registry.Faults{Refuse: true}, linkDown}} {
			if err := r.SetFaults(ctx, phase.faults); err != nil && ctx.Err() == nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(phase.lasts):
			}
		}
	}
	return nil
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
	m, ok := lab.Nodes()[0].Host().(*machine.Machine)
	if !ok {
		return false, errors.New("the node is no machine")
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
