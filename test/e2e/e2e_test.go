// Package e2e tests edgecache from end to end on real containerd, kubelet and pods. It
// needs root and runc; without them its tests are left out with the reason, or fail where
// EDGECACHE_REQUIRE_E2E=1 says that they may not be left out.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime/runtimetest"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/machine"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/product"
)

// patience bounds each wait: a kubelet collects images each five minutes.
const patience = 8 * time.Minute

// world is a real cluster with edgecache running in it.
type world struct {
	*testing.T
	lab        *cluster.Cluster
	product    *product.Product
	client     *versioned.Clientset
	controller *process.Process
	agents     map[string]*process.Process
}

func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	return newWorldWith(t, nodes, "")
}

// newWorldWith starts a world whose kubelets are configured in YAML.
func newWorldWith(t *testing.T, nodes int, kubelet string) *world {
	t.Helper()
	w := newCluster(t, cluster.Options{
		Nodes: nodes, Sites: 2, Kubelet: kubelet, ControllerManager: &controlplane.ControllerManager{}, Scheduler: &controlplane.Scheduler{},
	})
	for _, n := range w.lab.Nodes() {
		w.startAgent(n)
	}
	return w
}

// newCluster starts a world in which no agent runs.
func newCluster(t *testing.T, o cluster.Options) *world {
	t.Helper()
	o.Runtime, o.PreloadPause = cluster.Containerd, true
	lab := cluster.ForTest(t, o)
	p, err := product.Install(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{T: t, lab: lab, product: p, client: versioned.NewForConfigOrDie(lab.ControlPlane().Admin()), agents: map[string]*process.Process{}}
	if w.controller, err = p.Controller("controller"); err != nil {
		t.Fatal(err)
	}
	return w
}

// machine is what a node runs on.
func (w *world) machine(n *node.Node) *machine.Machine {
	w.Helper()
	m, ok := n.Host().(*machine.Machine)
	if !ok {
		w.Fatalf("%s is no machine", n.Name())
	}
	return m
}

func (w *world) startAgent(n *node.Node) {
	w.Helper()
	a, err := w.product.Agent(w.Context(), n)
	if err != nil {
		w.Fatal(err)
	}
	w.agents[n.Name()] = a
}

// push makes a runnable image with ballast.
func (w *world) push(reference string, ballast int64, seed uint64) testimage.Pushed {
	w.Helper()
	program, err := testimage.Hello.Build(w.Context(), w.lab.Tools(), "")
	if err != nil {
		w.Fatal(err)
	}
	img, err := testimage.Image(testimage.Spec{Program: program, Layers: []testimage.Random{{Seed: seed, Size: ballast}}})
	if err != nil {
		w.Fatal(err)
	}
	pushed, err := w.lab.Push(w.Context(), reference, img)
	if err != nil {
		w.Fatal(err)
	}
	return pushed
}

// apply makes an ImageCache name images, for all nodes.
func (w *world) apply(images ...string) {
	w.Helper()
	w.applyList(fmt.Sprintf("{images: [%s]}", strings.Join(images, ", ")))
}

// applyOn makes an ImageCache name images, for one node.
func (w *world) applyOn(n *node.Node, images ...string) {
	w.Helper()
	w.applyList(fmt.Sprintf("{images: [%s], nodeSelector: {%s: %s}}", strings.Join(images, ", "), corev1.LabelHostname, n.Name()))
}

func (w *world) applyList(list string) {
	w.Helper()
	manifest := fmt.Sprintf("{apiVersion: edgecache.dev/v1alpha1, kind: ImageCache, metadata: {name: pos, namespace: default}, spec: {cacheSpec: [%s]}}", list)
	if _, err := w.lab.ControlPlane().Apply(w.Context(), []byte(manifest)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) eventually(what string, holds func() error) {
	w.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *world) untilReady(nodes int32) {
	w.Helper()
	w.eventually(fmt.Sprintf("the cache is Ready on %d nodes", nodes), func() error {
		ic, err := w.client.EdgecacheV1alpha1().ImageCaches("default").Get(w.Context(), "pos", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if ic.Status.ObservedGeneration == ic.Generation && ic.Status.Nodes.Ready == nodes && meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReady) {
			return nil
		}
		return fmt.Errorf("%+v", ic.Status)
	})
}

// images asks a node's runtime over CRI, as the kubelet does.
func (w *world) images(n *node.Node) ([]*cri.Image, error) {
	m, ok := n.Host().(*machine.Machine)
	if !ok {
		return nil, fmt.Errorf("%s is no machine", n.Name())
	}
	conn, err := grpc.NewClient("unix://"+m.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	list, err := cri.NewImageServiceClient(conn).ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	return list.GetImages(), nil
}

// find gives a node's image by one of its names, nil when there is none.
func (w *world) find(n *node.Node, name string) (*cri.Image, error) {
	images, err := w.images(n)
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		if slices.Contains(img.GetRepoTags(), name) || slices.Contains(img.GetRepoDigests(), name) {
			return img, nil
		}
	}
	return nil, nil
}

// expectCached waits until a node's runtime has an image under exact reference and digest,
// pinned.
func (w *world) expectCached(n *node.Node, p testimage.Pushed) {
	w.Helper()
	w.eventually(fmt.Sprintf("%s holds %s", n.Name(), p.Name), func() error {
		img, err := w.find(n, p.Name)
		switch {
		case err != nil:
			return err
		case img == nil:
			return errors.New("not there")
		case !slices.Contains(img.GetRepoDigests(), p.ByDigest()):
			return fmt.Errorf("digests %v, want %s", img.GetRepoDigests(), p.ByDigest())
		case !img.GetPinned():
			return errors.New("not pinned")
		}
		return nil
	})
}

func (w *world) expectGone(n *node.Node, p testimage.Pushed) {
	w.Helper()
	w.eventually(fmt.Sprintf("%s gave up %s", n.Name(), p.Name), func() error {
		for _, name := range []string{p.Name, p.ByDigest()} {
			img, err := w.find(n, name)
			if err != nil {
				return err
			}
			if img != nil {
				return fmt.Errorf("%s is there: %v", name, img)
			}
		}
		return nil
	})
}

// runPod starts a pod on a node and gives its events when it runs.
func (w *world) runPod(n *node.Node, name, image string) []string {
	w.Helper()
	return w.run(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: n.Name()},
			Containers:   []corev1.Container{{Name: "main", Image: image}},
		},
	})
}

// run starts a pod and gives its events when it runs.
func (w *world) run(pod *corev1.Pod) []string {
	w.Helper()
	pods, name := w.lab.Client().CoreV1().Pods("default"), pod.Name
	w.eventually("the pod is accepted", func() error {
		_, err := pods.Create(w.Context(), pod, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // a try before whose answer was lost
			return nil
		}
		return err
	})
	w.eventually("the pod is Running", func() error {
		p, err := pods.Get(w.Context(), name, metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("%+v", p.Status)
		}
		return err
	})
	var messages []string
	w.eventually("the kubelet told of the image", func() (err error) {
		messages, err = w.events(name)
		if err == nil && !slices.ContainsFunc(messages, func(m string) bool { return strings.Contains(m, "mage") }) {
			err = fmt.Errorf("events %q", messages)
		}
		return err
	})
	return messages
}

// events gives what Events say of a pod.
func (w *world) events(pod string) (messages []string, err error) {
	events, err := w.lab.Client().CoreV1().Events("default").List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
	if err != nil {
		return nil, err
	}
	for _, e := range events.Items {
		messages = append(messages, e.Message)
	}
	return messages, nil
}

// TestMainJob: images come to real nodes before they are needed, and a pod starts from them
// without a pull.
//
//nolint:paralleltest // two real clusters at a time are too much for two cores
func TestMainJob(t *testing.T) {
	w := newWorld(t, 2)
	one, two := w.lab.Nodes()[0], w.lab.Nodes()[1]
	pos, extra := w.push("retail/pos:v1", 4<<20, 1), w.push("retail/extra:v1", 1<<20, 2)

	t.Log("the sandbox image is kept without anybody's asking")
	w.keepsSandboxImage(one)

	t.Log("apply: the images are on both nodes under exact reference and digest, pinned")
	w.apply(pos.Name, extra.Name)
	w.untilReady(2)
	for _, n := range []*node.Node{one, two} {
		w.expectCached(n, pos)
		w.expectCached(n, extra)
	}

	t.Log("a pod starts without a byte from the registry")
	w.lab.Registry().ResetRequests()
	messages := w.runPod(one, "by-tag", pos.Name)
	want := fmt.Sprintf("Container image %q already present on machine", pos.Name)
	if !slices.ContainsFunc(messages, func(m string) bool { return strings.HasPrefix(m, want) }) {
		t.Errorf("events %q, want one that begins %q", messages, want)
	}
	w.runPod(two, "by-digest", pos.ByDigest())
	w.expectNoRequests()

	t.Log("removed from the list it goes; what a container uses stays until it ends")
	w.apply(extra.Name)
	w.untilReady(2)
	w.eventually("the removal waits for the container", func() error {
		nic, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(w.Context(), one.Name(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, s := range nic.Status.Images {
			if s.Name == pos.Name && s.Reason == v1alpha1.ReasonInUse {
				return nil
			}
		}
		return fmt.Errorf("images %+v", nic.Status.Images)
	})
	w.expectPresent(one, pos)
	for _, pod := range []string{"by-tag", "by-digest"} {
		if err := w.lab.Client().CoreV1().Pods("default").Delete(t.Context(), pod, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			t.Fatal(err)
		}
	}
	w.expectGone(one, pos)
	w.expectGone(two, pos)
	w.expectCached(one, extra)

	t.Log("a node added later gets it")
	late, err := w.lab.AddNode(t.Context(), node.Spec{Name: "late"})
	if err != nil {
		t.Fatal(err)
	}
	w.startAgent(late)
	w.untilReady(3)
	w.expectCached(late, extra)

	t.Log("an image removed by hand comes back at once")
	w.remove(late, extra)
	w.expectCached(late, extra)
}

// remove removes an image by hand.
func (w *world) remove(n *node.Node, p testimage.Pushed) {
	w.Helper()
	if out, err := w.machine(n).Exec(w.Context(), w.lab.Tools().Path("ctr"), "-n", "k8s.io", "images", "rm", "--sync", p.Name, p.ByDigest()); err != nil {
		w.Fatal(out, err)
	}
}

// expectPresent checks that an image is still there.
func (w *world) expectPresent(n *node.Node, p testimage.Pushed) {
	w.Helper()
	if img, err := w.find(n, p.Name); err != nil || img == nil {
		w.Errorf("%s holds no %s (%v) although a container uses it", n.Name(), p.Name, err)
	}
}

// TestKilledInTheMiddle: SIGKILL of agent, controller and containerd in the middle of a
// pull. Every node ends as wished and no byte range that it has is fetched twice.
//
//nolint:paralleltest // two real clusters at a time are too much for two cores
func TestKilledInTheMiddle(t *testing.T) {
	w := newWorld(t, 1)
	n := w.lab.Nodes()[0]
	ballast := testimage.Random{Seed: 1, Size: 32 << 20}
	pos, blob := w.push("retail/pos:v1", ballast.Size, ballast.Seed), w.digest(ballast)
	if err := w.lab.Registry().SetFaults(t.Context(), registry.Faults{BytesPerSecond: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	w.apply(pos.Name)
	m := w.machine(n)
	agent, containerd := w.agents[n.Name()], m.Containerd()
	var cuts []cut
	for i, p := range []*process.Process{agent, w.controller, containerd, agent} {
		least := int64(i+1) * 2 << 20
		w.eventually(fmt.Sprintf("%d bytes of the blob were served", least), func() error {
			if got := w.served(blob); got < least {
				return fmt.Errorf("%d bytes", got)
			}
			return nil
		})
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, w.cut(m, blob))
		start := p.Restart
		if p == containerd {
			start = func() error { return m.StartContainerd(t.Context()) }
		}
		if err := start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.lab.Registry().SetFaults(t.Context(), registry.Faults{}); err != nil {
		t.Fatal(err)
	}
	w.untilReady(1)
	w.expectCached(n, pos)
	w.expectNoRepeats(blob, cuts)
	w.lab.Registry().ResetRequests()
	w.runPod(n, "pos", pos.Name)
	w.expectNoRequests()
}

// digest is a layer's, as the registry has it.
func (w *world) digest(layer testimage.Random) string {
	w.Helper()
	img, err := testimage.Image(testimage.Spec{Layers: []testimage.Random{layer}})
	if err != nil {
		w.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		w.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		w.Fatal(err)
	}
	return d.String()
}

// served is how many bytes of a blob the registry has sent.
func (w *world) served(blob string) int64 {
	return w.lab.Registry().Requests().Where(func(r registry.Request) bool { return r.Blob == blob }).BlobBytes()
}

// cut is what there was of a blob when a program was killed.
type cut struct {
	requests int   // how many the registry had had
	stored   int64 // bytes in the node's containerd
}

// contentDir is where containerd keeps blobs.
const contentDir = "/var/lib/containerd/io.containerd.content.v1.content"

func (w *world) cut(m *machine.Machine, blob string) cut {
	w.Helper()
	requests := len(w.lab.Registry().Requests())
	// By its files: containerd may be the one that was killed.
	store, err := local.NewStore(m.Outside(contentDir))
	if err != nil {
		w.Fatal(err)
	}
	return cut{requests: requests, stored: runtimetest.Written(w.T, store, digest.Digest(blob))}
}

// expectNoRepeats holds the requests for a blob after each kill to begin where the node's
// copy ended, or behind: containerd goes on writing what a killed agent had handed over.
func (w *world) expectNoRepeats(blob string, cuts []cut) {
	w.Helper()
	log := w.lab.Registry().Requests()
	for i, c := range cuts {
		spans := log[c.requests:].Spans(blob)
		w.Logf("after kill %d the node had %d bytes, requests: %v", i+1, c.stored, spans)
		if c.stored == 0 {
			w.Errorf("kill %d was not in the middle of blob %s", i+1, blob)
		}
		for _, s := range spans {
			if s.Start < c.stored {
				w.Errorf("after kill %d the node had %d bytes, and a request began at %d", i+1, c.stored, s.Start)
			}
		}
	}
	if n := len(log.Spans(blob)); n < 3 {
		w.Errorf("%d requests: nothing was interrupted", n)
	}
	w.Logf("%d bytes of the blob were sent twice", log.Repeated(blob))
}
