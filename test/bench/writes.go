package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/product"
)

const (
	writeNodes, writeImages = 10, 10
	// fledgedWrites is what kube-fledged (master 837f2b3) writes per node and image,
	// measured against a real API server with 50 nodes and 4 images.
	fledgedWrites = 14.9
	patience      = 15 * time.Minute
)

// apiWrites counts writes of edgecache's kinds and of Events from apply to Ready, Leases apart.
func apiWrites(ctx context.Context) (rows []row, err error) {
	lab, err := cluster.Start(ctx, cluster.Options{Nodes: writeNodes})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	p, err := product.Run(ctx, lab)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var names []string
	for i := range writeImages {
		pushed, err := push(ctx, lab, fmt.Sprintf("bench/img%d:v1", i), 1<<20, uint64(i))
		if err != nil {
			return nil, err
		}
		names = append(names, pushed.Name)
	}
	client, err := versioned.NewForConfig(lab.ControlPlane().Admin())
	if err != nil {
		return nil, fmt.Errorf("making client: %w", err)
	}
	before, err := settled(ctx, client)
	if err != nil {
		return nil, err
	}
	if err := apply(ctx, lab, names); err != nil {
		return nil, err
	}
	if err := untilReady(ctx, client, writeNodes); err != nil {
		return nil, err
	}
	after, err := writes(ctx, client)
	if err != nil {
		return nil, err
	}
	perPair := float64(after-before) / (writeNodes * writeImages)
	return []row{{
		fmt.Sprintf("API writes per node and image, apply to Ready (%d × %d)", writeNodes, writeImages),
		fmt.Sprintf("%.2f", perPair), fmt.Sprintf("kube-fledged: %.1f", fledgedWrites), fmt.Sprintf("%.3f", perPair/fledgedWrites),
	}}, nil
}

func push(ctx context.Context, lab *cluster.Cluster, reference string, size int64, seed uint64) (testimage.Pushed, error) {
	img, err := testimage.Image(testimage.Spec{Layers: []testimage.Random{{Seed: seed, Size: size}}})
	if err != nil {
		return testimage.Pushed{}, err
	}
	return lab.Push(ctx, reference, img)
}

func apply(ctx context.Context, lab *cluster.Cluster, images []string) error {
	manifest := fmt.Sprintf("{apiVersion: edgecache.dev/v1alpha1, kind: ImageCache, metadata: {name: bench, namespace: default}, spec: {cacheSpec: [{images: [%s]}]}}",
		strings.Join(images, ", "))
	_, err := lab.ControlPlane().Apply(ctx, []byte(manifest))
	return err
}

func untilReady(ctx context.Context, client *versioned.Clientset, nodes int32) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ic, err := client.EdgecacheV1alpha1().ImageCaches("default").Get(ctx, "bench", metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("waiting for Ready: %w", err)
		}
		if ic.Status.Nodes.Ready == nodes && meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReady) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for Ready: %w, status %+v", context.Cause(ctx), ic.Status)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// quiet is how long nobody writes who has begun and has nothing to do.
const quiet = 10 * time.Second

// settled waits until controller and agents have told that they are there, and gives the count of writes then.
func settled(ctx context.Context, client *versioned.Clientset) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for last, since := -1, time.Now(); ; {
		now, err := writes(ctx, client)
		if err != nil {
			return 0, err
		}
		if now != last {
			last, since = now, time.Now()
		}
		// Each node has its object, and each agent has said what it is.
		if now >= 2*writeNodes && time.Since(since) >= quiet {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting until nobody writes: %w, %d writes", context.Cause(ctx), now)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// writes counts all writes of edgecache's kinds and of Events that the API server has been asked for. Nobody else in the
// lab tells of anything.
func writes(ctx context.Context, client *versioned.Clientset) (int, error) {
	text, err := client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	sum := 0
	for line := range strings.Lines(string(text)) {
		ours := strings.Contains(line, `group="edgecache.dev"`) || strings.Contains(line, `resource="events"`)
		if !strings.HasPrefix(line, "apiserver_request_total{") || !ours {
			continue
		}
		_, verb, _ := strings.Cut(line, `verb="`)
		verb, _, _ = strings.Cut(verb, `"`)
		if !slices.Contains([]string{"POST", "PUT", "PATCH", "DELETE"}, verb) {
			continue
		}
		var n int
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n); err != nil {
			return 0, fmt.Errorf("reading the API server's metrics: %w", err)
		}
		sum += n
	}
	return sum, nil
}
