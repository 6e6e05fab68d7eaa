package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/product"
)

// world is a lab with edgecache running in it.
type world struct {
	*testing.T
	lab        *cluster.Cluster
	product    *product.Product
	client     *versioned.Clientset
	kubectl    kubectl
	controller *process.Process
	agents     map[string]*process.Process
}

// newWorld starts a lab with nodes in two sites, the controller and an agent per node.
func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	w := newInstalled(t, nodes)
	w.startController()
	for _, n := range w.lab.Nodes() {
		w.startAgent(n)
	}
	return w
}

// newInstalled starts a lab with nodes in two sites in which no program of edgecache runs yet.
func newInstalled(t *testing.T, nodes int) *world {
	t.Helper()
	lab := cluster.ForTest(t, cluster.Options{Nodes: nodes, Sites: 2})
	p, err := product.Install(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{
		T: t, lab: lab, product: p, agents: map[string]*process.Process{},
		client: versioned.NewForConfigOrDie(lab.ControlPlane().Admin()), kubectl: newKubectl(t, lab),
	}
}

func (w *world) startController(args ...string) {
	w.Helper()
	var err error
	if w.controller, err = w.product.Controller("controller", args...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) startAgent(n *node.Node, args ...string) {
	w.Helper()
	a, err := w.product.Agent(w.Context(), n, args...)
	if err != nil {
		w.Fatal(err)
	}
	w.agents[n.Name()] = a
}

// push makes an image of one layer of random bytes.
func (w *world) push(reference string, size int64, seed uint64) testimage.Pushed {
	w.Helper()
	pushed, err := w.lab.Push(w.Context(), reference, w.image(size, seed))
	if err != nil {
		w.Fatal(err)
	}
	return pushed
}

func (w *world) image(size int64, seed uint64) v1.Image {
	w.Helper()
	img, err := testimage.Image(testimage.Spec{Layers: []testimage.Random{{Seed: seed, Size: size}}})
	if err != nil {
		w.Fatal(err)
	}
	return img
}

// apply applies an ImageCache with a spec in YAML's flow style.
func (w *world) apply(name, spec string) {
	w.Helper()
	w.applyIn("default", name, spec)
}

func (w *world) applyIn(namespace, name, spec string) {
	w.Helper()
	manifest := fmt.Sprintf("{apiVersion: edgecache.dev/v1alpha1, kind: ImageCache, metadata: {name: %s, namespace: %s}, spec: %s}", name, namespace, spec)
	if out, err := w.kubectl.apply(w.T, manifest); err != nil {
		w.Fatal(out)
	}
}

// listing gives a spec with one list of images for all nodes, and further fields.
func listing(images []string, fields ...string) string {
	return "{" + strings.Join(append([]string{"cacheSpec: [{images: [" + quoted(images) + "]}]"}, fields...), ", ") + "}"
}

func (w *world) cache(name string) *v1alpha1.ImageCache {
	w.Helper()
	ic, err := w.client.EdgecacheV1alpha1().ImageCaches("default").Get(w.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return ic
}

func (w *world) object(node string) *v1alpha1.NodeImageCache {
	w.Helper()
	nic, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(w.Context(), node, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return nic
}

// until waits until an ImageCache's present generation satisfies a condition.
func (w *world) until(name, what string, holds func(*v1alpha1.ImageCache) bool) *v1alpha1.ImageCache {
	w.Helper()
	var last *v1alpha1.ImageCache
	eventually(w.T, name+" "+what, func() error {
		var err error
		if last, err = w.client.EdgecacheV1alpha1().ImageCaches("default").Get(w.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if last.Status.ObservedGeneration == last.Generation && holds(last) {
			return nil
		}
		return fmt.Errorf("status: %s", asJSON(last.Status))
	})
	return last
}

// untilReady waits as kubectl wait --for=condition=Ready does, for a number of nodes.
func (w *world) untilReady(name string, nodes int32) *v1alpha1.ImageCache {
	w.Helper()
	return w.until(name, fmt.Sprintf("is Ready on %d nodes", nodes), func(ic *v1alpha1.ImageCache) bool {
		return meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReady) && ic.Status.Nodes.Ready == nodes
	})
}

// names gives what a node's image layout holds: canonical reference to digest.
func (w *world) names(n *node.Node) map[string]string {
	w.Helper()
	names, err := product.LayoutNames(n)
	if err != nil {
		w.Fatal(err)
	}
	return names
}

// expectNames waits until a node holds exactly these images, each under its tag and digest.
func (w *world) expectNames(n *node.Node, images ...testimage.Pushed) {
	w.Helper()
	want := map[string]string{}
	for _, p := range images {
		want[p.Name], want[p.ByDigest()] = p.Digest, p.Digest
	}
	eventually(w.T, fmt.Sprintf("%s holds %d images", n.Name(), len(images)), func() error {
		if got := w.names(n); !maps.Equal(want, got) {
			return fmt.Errorf("holds %v, want %v", got, want)
		}
		return nil
	})
}

// blobs gives the digests of the blobs in a node's layout.
func (w *world) blobs(n *node.Node) []string {
	w.Helper()
	entries, err := os.ReadDir(filepath.Join(product.LayoutDir(n), "blobs", "sha256"))
	if err != nil {
		w.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, "sha256:"+e.Name())
	}
	slices.Sort(out)
	return out
}

// stays checks for a while that something keeps holding.
func (w *world) stays(what string, d time.Duration, holds func() error) {
	w.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err := holds(); err != nil {
			w.Fatalf("%s: %v", what, err)
		}
	}
}

// writes counts the writes to the API server by edgecache's programs, Leases apart.
func (w *world) writes() map[string]int {
	w.Helper()
	rest := w.client.RESTClient()
	text, err := rest.Get().AbsPath("/metrics").DoRaw(context.WithoutCancel(w.Context()))
	if err != nil {
		w.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `group="edgecache.dev"`) {
			continue
		}
		verb, resource := label(line, "verb"), label(line, "resource")
		if slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE"}, verb) {
			var n int
			if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n); err != nil {
				w.Fatal(err)
			}
			counts[verb+" "+resource+"/"+label(line, "subresource")] += n
		}
	}
	return counts
}

// settled gives the writes so far when no more come: two readings are the same.
func (w *world) settled() map[string]int {
	w.Helper()
	last := w.writes()
	eventually(w.T, "no more is written", func() error {
		time.Sleep(3 * time.Second)
		now := w.writes()
		if maps.Equal(last, now) {
			return nil
		}
		err := fmt.Errorf("writes %v, then %v", last, now)
		last = now
		return err
	})
	return last
}

// logged counts the lines of a program's log, over all of its starts, that contain a text.
func (w *world) logged(p *process.Process, text string) int {
	w.Helper()
	b, err := os.ReadFile(p.Log())
	if err != nil {
		w.Fatal(err)
	}
	return strings.Count(string(b), text)
}

func label(line, name string) string {
	_, after, _ := strings.Cut(line, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
