package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
)

// greedy is a kubelet for which no disk is empty enough: it collects every image that it may,
// each ten seconds. By imageGCHighThresholdPercent alone it would do so each five minutes.
const greedy = `{imageGCHighThresholdPercent: 2, imageGCLowThresholdPercent: 1, imageMinimumGCAge: 1ms,
  evictionHard: {memory.available: 10Mi, nodefs.available: 99%, imagefs.available: 99%}}`

// TestGarbageCollection: a real kubelet under disk pressure collects what nobody looks after and
// spares what is pinned; pins move with the wish.
//
//nolint:paralleltest // two real clusters at a time are too much for two cores
func TestGarbageCollection(t *testing.T) {
	w := newWorldWith(t, 1, greedy)
	n := w.lab.Nodes()[0]
	one, two := w.push("retail/one:v1", 1<<20, 1), w.push("retail/two:v1", 1<<20, 2)
	control := func(i uint64) testimage.Pushed { return w.push(fmt.Sprintf("retail/control:v%d", i), 1<<20, 10+i) }
	w.apply(one.Name)
	w.expectCached(n, one)

	t.Log("what is pinned survives, an image that somebody pulled does not")
	w.collect(n, control(1))
	w.expectKept(n, one)

	t.Log("the wish moves to another image, and the pin with it")
	w.apply(two.Name)
	w.expectGone(n, one)
	w.expectCached(n, two)
	w.collect(n, control(2))
	w.expectKept(n, two)

	t.Log("let go of, the image is collected like any other")
	if err := w.client.EdgecacheV1alpha1().ImageCaches("default").Delete(t.Context(), "pos", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the pin is taken off", func() error {
		img, err := w.find(n, two.Name)
		if err == nil && img.GetPinned() {
			err = fmt.Errorf("image %v", img)
		}
		return err
	})
	w.collect(n, two)
}

// collect pulls an image as somebody else does, and waits until the kubelet has collected it.
func (w *world) collect(n *node.Node, p testimage.Pushed) {
	w.Helper()
	w.pull(n, p.Name)
	w.collected(n, []testimage.Pushed{p})
}

// collected waits until the kubelet has collected images that are there. What is asked of the registry meanwhile is
// what was fetched again.
func (w *world) collected(n *node.Node, images []testimage.Pushed) {
	w.Helper()
	w.lab.Registry().ResetRequests()
	began := time.Now()
	for _, p := range images {
		w.eventually("the kubelet collects "+p.Name, func() error {
			img, err := w.find(n, p.Name)
			if err == nil && img != nil {
				err = fmt.Errorf("it is there: %v", img)
			}
			return err
		})
		w.Logf("%s was collected after %s", p.Name, time.Since(began).Round(time.Second))
	}
}

// pull pulls an image over CRI.
func (w *world) pull(n *node.Node, name string) {
	w.Helper()
	conn, err := grpc.NewClient("unix://"+w.machine(n).Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	if _, err := cri.NewImageServiceClient(conn).PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: name}}); err != nil {
		w.Fatal(err)
	}
}

// expectKept checks that an image is there and pinned, and was not fetched again.
func (w *world) expectKept(n *node.Node, p testimage.Pushed) {
	w.Helper()
	img, err := w.find(n, p.Name)
	if err != nil || img == nil || !img.GetPinned() {
		w.Errorf("%s is %v, %v after a collection, want it to be there and pinned", p.Name, img, err)
	}
	again := w.lab.Registry().Requests().Where(func(r registry.Request) bool { return strings.HasSuffix(p.Repository, "/"+r.Repository) })
	if len(again) > 0 {
		w.Errorf("%s was asked for again: %v", p.Name, again)
	}
}
