package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/api/meta"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime/runtimetest"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/product"
)

// TestF19RestartGoesOn: agents and controller are killed -9 while images come in. Every
// node ends as wished, and no byte range that was on a node is fetched again.
func TestF19RestartGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	const size = 16 << 20 // far more than comes until the last kill
	pos := w.push("retail/pos:v1", size, 1)
	layer := w.layerOf(size, 1)
	w.slow(1 << 20)
	w.apply("pos", listing([]string{pos.Name}))
	var cuts []cut
	for _, least := range []int64{1 << 20, 3 << 20, 5 << 20} {
		eventually(t, fmt.Sprintf("%d bytes were served", 2*least), func() error {
			if n := w.lab.Registry().Requests().Blobs().BlobBytes(); n < 2*least {
				return fmt.Errorf("%d bytes", n)
			}
			return nil
		})
		for _, a := range w.agents {
			if err := a.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.controller.Kill(); err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, w.cut(layer))
		for _, a := range w.agents {
			if err := a.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.controller.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	w.slow(0)
	w.untilReady("pos", 2)
	for _, n := range w.lab.Nodes() {
		w.expectNames(n, pos)
	}
	w.expectNoRepeats(layer, cuts, size)
}

// layerOf gives the digest of the layer of an image that push made.
func (w *world) layerOf(size int64, seed uint64) string {
	w.Helper()
	layers, err := w.image(size, seed).Layers()
	if err != nil {
		w.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		w.Fatal(err)
	}
	return digest.String()
}

func (w *world) slow(bytesPerSecond int64) {
	w.Helper()
	if err := w.lab.Registry().SetFaults(w.Context(), registry.Faults{BytesPerSecond: bytesPerSecond}); err != nil {
		w.Fatal(err)
	}
}

// cut is what there was of a blob when all agents were killed.
type cut struct {
	requests int     // how many the registry had had
	stored   []int64 // bytes on the nodes' disks, in ascending order
}

func (w *world) cut(blob string) cut {
	w.Helper()
	c := cut{requests: len(w.lab.Registry().Requests())}
	for _, n := range w.lab.Nodes() {
		c.stored = append(c.stored, w.stored(n, digest.Digest(blob)))
	}
	slices.Sort(c.stored)
	return c
}

// stored gives how many bytes of a blob are on a node's disk.
func (w *world) stored(n *node.Node, blob digest.Digest) int64 {
	w.Helper()
	store, err := local.NewStore(product.LayoutDir(n))
	if err != nil {
		w.Fatal(err)
	}
	if info, err := store.Info(w.Context(), blob); err == nil {
		return info.Size
	}
	return runtimetest.Written(w.T, store, blob)
}

// expectNoRepeats holds the requests for a blob to begin where the nodes' copies ended when
// the agents were killed. Nodes share an address here: between two kills there is one
// request from each, and the one that begins first is compared with the smallest copy.
func (w *world) expectNoRepeats(blob string, cuts []cut, size int64) {
	w.Helper()
	log := w.lab.Registry().Requests()
	for i, c := range cuts {
		end := len(log)
		if i+1 < len(cuts) {
			end = cuts[i+1].requests
		}
		var starts []int64
		for _, s := range log[c.requests:end].Spans(blob) {
			starts = append(starts, s.Start)
		}
		slices.Sort(starts)
		for j, start := range starts {
			least := c.stored[0]
			if len(starts) <= len(c.stored) {
				least = c.stored[j]
			}
			if start < least {
				w.Errorf("after kill %d requests began at %v, the nodes had %v", i+1, starts, c.stored)
			}
		}
		w.Logf("after kill %d requests began at %v, the nodes had %v", i+1, starts, c.stored)
	}
	nodes, spans := len(cuts[0].stored), log.Spans(blob)
	w.Logf("%d requests served a layer of %d bytes to %d nodes, %d bytes twice", len(spans), size, nodes, log.Repeated(blob)-int64(nodes-1)*size)
	if len(spans) <= nodes {
		w.Errorf("%d requests for %d nodes: nothing was interrupted", len(spans), nodes)
	}
}

// TestF16FailuresNameImageAndNode: what is wrong is said, with the image and the node, and heals.
func TestF16FailuresNameImageAndNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	addr := w.lab.Registry().Addr()
	good := w.push("retail/good:v1", 1<<20, 1)

	t.Log("an image that is not there is held back, and the others are not")
	w.apply("pos", listing([]string{good.Name, addr + "/retail/none:v1"}))
	ic := w.until("pos", "says what is wrong", func(ic *v1alpha1.ImageCache) bool {
		return meta.IsStatusConditionFalse(ic.Status.Conditions, v1alpha1.ConditionPullable) && ic.Status.Images[0].Nodes.Ready == 1
	})
	c := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionReady)
	if c.Reason != v1alpha1.ReasonNotPullable || !strings.Contains(c.Message, "/retail/none:v1: NotFound") {
		t.Errorf("Ready = %s", asJSON(c))
	}
	w.expectNames(w.lab.Nodes()[0], good)

	t.Log("it comes when it is pushed")
	none := w.push("retail/none:v1", 1<<20, 2)
	w.kubectl.must(t, "annotate", "imagecache", "pos", "edgecache.dev/requestedAt=1")
	w.untilReady("pos", 1)
	w.expectNames(w.lab.Nodes()[0], good, none)

	t.Log("a node that cannot pull says why")
	bad := w.push("retail/bad:v1", 1<<20, 3)
	if err := w.lab.Registry().SetFaults(t.Context(), registry.Faults{Responses: []registry.Response{{
		Method: http.MethodGet, Path: regexp.MustCompile(w.layerOf(1<<20, 3)), Status: http.StatusForbidden,
	}}}); err != nil {
		t.Fatal(err)
	}
	w.apply("pos", listing([]string{good.Name, bad.Name}))
	ic = w.until("pos", "names the failure", func(ic *v1alpha1.ImageCache) bool { return ic.Status.FailureCount == 1 })
	if f := ic.Status.Failures[0]; f.Image != bad.Name || f.Node != "node-1" || f.Reason != v1alpha1.ReasonUnauthorized || f.Since.IsZero() {
		t.Errorf("failure %s", asJSON(f))
	}
	if c := meta.FindStatusCondition(ic.Status.Conditions, v1alpha1.ConditionReady); c.Reason != v1alpha1.ReasonImagesFailing || !strings.Contains(c.Message, bad.Name+" on node-1") {
		t.Errorf("Ready = %s", asJSON(c))
	}
	if out := w.kubectl.must(t, "get", "ic", "pos"); !strings.Contains(out, "0/1     1") {
		t.Errorf("kubectl get ic:\n%s", out)
	}
	w.slow(0)
	if err := w.agents["node-1"].Kill(); err != nil { // a refusal is tried again after a minute: not here
		t.Fatal(err)
	}
	if err := w.agents["node-1"].Restart(); err != nil {
		t.Fatal(err)
	}
	w.untilReady("pos", 1)
	w.expectNames(w.lab.Nodes()[0], good, bad)
}

// TestTwoControllers: one works at a time, and the other takes over.
func TestTwoControllers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	if err := w.controller.Kill(); err != nil {
		t.Fatal(err)
	}
	// Logs each try for the lead that is refused.
	elect := []string{"--leader-elect=true", "-v=4"}
	const refused, working = "Failed to acquire lease", "Controller is working"
	first, err := w.product.Controller("first", elect...)
	if err != nil {
		t.Fatal(err)
	}
	pos := w.push("retail/pos:v1", 1<<20, 1)
	w.apply("pos", listing([]string{pos.Name}))
	w.untilReady("pos", 1)
	second, err := w.product.Controller("second", elect...)
	if err != nil {
		t.Fatal(err)
	}
	w.untilLogged(second, refused, 2)
	if n := w.logged(second, working); n != 0 {
		t.Error("the second controller works beside the first")
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	extra := w.push("retail/extra:v1", 1<<20, 2)
	w.apply("pos", listing([]string{pos.Name, extra.Name}))
	w.untilReady("pos", 1)
	w.expectNames(w.lab.Nodes()[0], pos, extra)
	before := w.logged(first, refused)
	if err := first.Restart(); err != nil {
		t.Fatal(err)
	}
	w.untilLogged(first, refused, before+2)
	if w.logged(first, working) != 1 || w.logged(second, working) != 1 {
		t.Error("the first controller works beside the second")
	}
}

// untilLogged waits until a text is n times in a program's log.
func (w *world) untilLogged(p *process.Process, text string, n int) {
	w.Helper()
	eventually(w.T, fmt.Sprintf("%s logs %q", p.Name(), text), func() error {
		if got := w.logged(p, text); got < n {
			return fmt.Errorf("%d times, want %d", got, n)
		}
		return nil
	})
}

// TestDamagedStore: an agent whose memory is damaged is made whole from the runtime and
// the API server, and removes nothing meanwhile.
func TestDamagedStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	n := w.lab.Nodes()[0]
	pos := w.push("retail/pos:v1", 1<<20, 1)
	w.apply("pos", listing([]string{pos.Name}))
	w.untilReady("pos", 1)
	before := w.lab.Registry().Requests().Blobs().BlobBytes()
	if err := w.agents[n.Name()].Kill(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(product.StateDir(n), "state.db")
	if err := os.Truncate(file, 9000); err != nil {
		t.Fatal(err)
	}
	if err := w.lab.ControlPlane().StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := w.agents[n.Name()].Restart(); err != nil {
		t.Fatal(err)
	}
	w.stays("the image stays while the wish is unknown", 2*time.Second, func() error {
		if len(w.names(n)) != 2 {
			return fmt.Errorf("holds %v", w.names(n))
		}
		return nil
	})
	if err := w.lab.ControlPlane().StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.untilReady("pos", 1)
	w.expectNames(n, pos)
	if after := w.lab.Registry().Requests().Blobs().BlobBytes(); after != before {
		t.Errorf("%d bytes were fetched again", after-before)
	}
	if found, err := filepath.Glob(file + ".damaged-*"); err != nil || len(found) != 1 {
		t.Errorf("damaged file kept aside: %v (%v)", found, err)
	}
}
