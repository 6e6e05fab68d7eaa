package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/testimage"
)

const (
	// smallDisk is what the runtime's images may fill, in bytes.
	smallDisk = 400 << 20
	// tidy is a kubelet that collects images from half a disk on, down to 30 %, and evicts nobody.
	tidy = `{imageGCHighThresholdPercent: 50, imageGCLowThresholdPercent: 30, imageMinimumGCAge: 1ms}`
)

// TestImageGarbageCollection: the kubelet's own collection of images, which has nothing to do with evictions. Images on a
// disk of their own fill it beyond imageGCHighThresholdPercent; what nobody looks after goes, what is pinned stays. The
// kubelet looks each five minutes.
func TestImageGarbageCollection(t *testing.T) {
	t.Parallel()
	w := newCluster(t, cluster.Options{Nodes: 1, Kubelet: tidy})
	n := w.lab.Nodes()[0]
	w.imagesOnSmallDisk(n)
	w.startAgent(n)
	kept := w.push("retail/kept:v1", 40<<20, 1)
	w.apply(kept.Name)
	w.expectCached(n, kept)
	// A layer takes its size twice: as it is kept, and unpacked.
	var controls []testimage.Pushed
	for i := range uint64(3) {
		controls = append(controls, w.push(fmt.Sprintf("retail/control:v%d", i), 30<<20, 10+i))
		w.pull(n, controls[i].Name)
	}
	// It collects no image before it has seen it twice, and sees them when it starts.
	if err := w.machine(n).StartKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.collected(n, controls)
	w.expectKept(n, kept)
	w.eventually("the kubelet counts what it collected for space", func() error {
		if got := w.collectedForSpace(n); got != len(controls) {
			return fmt.Errorf("%d images, want %d", got, len(controls))
		}
		return nil
	})
}

// imagesOnSmallDisk gives a node's containerd a disk of its own. The kubelet is to see it when it starts again.
func (w *world) imagesOnSmallDisk(n *node.Node) {
	w.Helper()
	m := w.machine(n)
	disk := filepath.Join(n.Dir(), "images.img")
	must := func(err error) {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
	}
	must(os.WriteFile(disk, nil, 0o600))
	must(os.Truncate(disk, smallDisk))
	must(m.Kubelet().Kill())
	must(m.Containerd().Kill())
	for _, argv := range [][]string{
		{"mkfs.ext4", "-q", "-m", "0", disk},
		{"mount", "-o", "loop", disk, "/var/lib/containerd"},
	} {
		if out, err := m.Exec(w.Context(), argv...); err != nil {
			w.Fatal(out, err)
		}
	}
	must(m.StartContainerd(w.Context()))
}

// collectedTotal is the kubelet's count of images that it collected for want of space.
var collectedTotal = regexp.MustCompile(`(?m)^kubelet_image_garbage_collected_total\{reason="space"\} (\d+)$`)

func (w *world) collectedForSpace(n *node.Node) int {
	w.Helper()
	text, err := w.lab.Client().CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", n.Name(), "proxy/metrics").DoRaw(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	found := collectedTotal.FindSubmatch(text)
	if found == nil {
		return 0
	}
	count, err := strconv.Atoi(string(found[1]))
	if err != nil {
		w.Fatal(err)
	}
	return count
}
