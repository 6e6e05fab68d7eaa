package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/imagelocality"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	"edgecache.dev/api/v1alpha1"
	schedulerplugin "edgecache.dev/scheduler-plugin"
	"edgecache.dev/scheduler-plugin/args"
	"edgecache.dev/scheduler-plugin/inventory"
)

// A fleet for the benchmarks: 300 images of 12 layers, the lower 6 of which they share with 29 others. Each node holds 50
// of them, and lists them in its status, as the kubelet does.
const (
	fleetImages   = 300
	imageLayers   = 12
	sharedLayers  = 6
	imagesPerBase = 30
	perNode       = 50
)

func digestOf(kind string, n int) string { return fmt.Sprintf("sha256:%06d%058x", n, kind[0]) }

func imageName(n int) string { return fmt.Sprintf("registry.example/team/app-%03d:v1.2.3", n) }

func content(n int) *v1alpha1.ImageContent {
	digest := digestOf("image", n)
	p := v1alpha1.PlatformContent{OS: "linux", Architecture: "amd64", ManifestDigest: digestOf("manifest", n)}
	for l := range imageLayers {
		id := 1000*n + l
		if l < sharedLayers {
			id = 1_000_000 + 1000*(n/imagesPerBase) + l
		}
		p.Layers = append(p.Layers, v1alpha1.Layer{Digest: digestOf("layer", id), Size: 20 << 20})
	}
	return &v1alpha1.ImageContent{
		ObjectMeta:   metav1.ObjectMeta{Name: "sha256-" + digest[len("sha256:"):]},
		Repositories: []string{fmt.Sprintf("registry.example/team/app-%03d", n)}, Platforms: []v1alpha1.PlatformContent{p},
	}
}

// held are the images of a node: another selection on each.
func held(node int) (images []int) {
	for i := range perNode {
		images = append(images, (node*7+i*11)%fleetImages)
	}
	return images
}

func node(n int) *corev1.Node {
	out := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("edge-site-%03d-node-%04d", n%100, n), Labels: map[string]string{v1alpha1.LabelSite: fmt.Sprintf("s%d", n%100)}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, i := range held(n) {
		out.Status.Images = append(out.Status.Images, corev1.ContainerImage{Names: []string{imageName(i)}, SizeBytes: 400 << 20})
	}
	return out
}

func nodeImageCache(n int, name string) *v1alpha1.NodeImageCache {
	out := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name}}
	out.Status.Platform, out.Status.UnpackBytesPerSecond = "linux/amd64", 50<<20
	out.Status.Registries = []v1alpha1.RegistryStatus{{Host: "registry.example", Reachable: metav1.ConditionTrue, BytesPerSecond: 2 << 20}}
	out.Status.Disk = &v1alpha1.DiskStatus{Capacity: 64 << 30, Available: 32 << 30, Reserve: 8 << 30}
	for _, i := range held(n) {
		out.Status.Images = append(out.Status.Images, v1alpha1.NodeImageStatus{Name: imageName(i), Digest: digestOf("image", i), Phase: v1alpha1.PhaseCached})
	}
	return out
}

// pod has an application, a sidecar and an init container, as many have.
func benchPod(n int) *corev1.Pod {
	container := func(image int) corev1.Container {
		return corev1.Container{
			Name: fmt.Sprintf("c%d", image), Image: imageName(image), ImagePullPolicy: corev1.PullIfNotPresent,
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
		}
	}
	return &corev1.Pod{Spec: corev1.PodSpec{
		Containers:     []corev1.Container{container(n % fleetImages), container((n + 100) % fleetImages)},
		InitContainers: []corev1.Container{container((n + 200) % fleetImages)},
	}}
}

// world is a fleet as the plugins see it.
type world struct {
	nodes  []fwk.NodeInfo
	ours   *schedulerplugin.Plugin
	theirs fwk.ScorePlugin
	known  *inventory.Inventory
}

func newWorld(tb testing.TB, nodes int) *world {
	tb.Helper()
	known := inventory.New(inventory.Options{BytesPerSecond: args.DefaultBytesPerSecond, UnpackBytesPerSecond: args.DefaultUnpackBytesPerSecond})
	for i := range fleetImages {
		known.SetContent(content(i))
	}
	objects := make([]*corev1.Node, nodes)
	for i := range nodes {
		objects[i] = node(i)
		known.SetNode(objects[i])
		known.SetCache(nodeImageCache(i, objects[i].Name))
		known.SetLease(&coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: objects[i].Name},
			Spec:       coordinationv1.LeaseSpec{RenewTime: new(metav1.NewMicroTime(time.Now())), LeaseDurationSeconds: new(int32(86400))},
		})
	}
	known.Complete()
	snapshot := cache.NewSnapshot(nil, objects)
	handle, err := frameworkruntime.NewFramework(tb.Context(), nil, nil, frameworkruntime.WithSnapshotSharedLister(snapshot))
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{known: known}
	if w.nodes, err = snapshot.NodeInfos().List(); err != nil {
		tb.Fatal(err)
	}
	settings := &args.ImageCacheLocalityArgs{}
	args.SetDefaults(settings)
	w.ours = schedulerplugin.NewWith(settings, handle, known)
	theirs, err := imagelocality.New(tb.Context(), nil, handle)
	if err != nil {
		tb.Fatal(err)
	}
	var ok bool
	if w.theirs, ok = theirs.(fwk.ScorePlugin); !ok {
		tb.Fatalf("%T does not score", theirs)
	}
	return w
}

// sizes are the fleets that the benchmarks run on.
var sizes = []int{100, 1000, 5000}

func eachSize(b *testing.B, run func(b *testing.B, w *world)) {
	b.Helper()
	for _, nodes := range sizes {
		w := newWorld(b, nodes)
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			b.ReportAllocs()
			run(b, w)
		})
	}
}

// BenchmarkPreScore is one pod of a kind that was not seen before: nothing of the last one can be used again.
func BenchmarkPreScore(b *testing.B) {
	eachSize(b, func(b *testing.B, w *world) {
		b.Helper()
		ctx, n := b.Context(), 0
		pods := make([]*corev1.Pod, fleetImages)
		for i := range pods {
			pods[i] = benchPod(i)
			w.ours.PreScore(ctx, framework.NewCycleState(), pods[i], w.nodes) // its references are known then
		}
		for b.Loop() {
			if n%fleetImages == 0 {
				w.known.SetContent(content(0)) // what was worked out for the pods before does not hold any more
			}
			if status := w.ours.PreScore(ctx, framework.NewCycleState(), pods[n%fleetImages], w.nodes); !status.IsSuccess() {
				b.Fatal(status)
			}
			n++
		}
	})
}

// BenchmarkPreScoreAgain is one more pod of the same kind.
func BenchmarkPreScoreAgain(b *testing.B) {
	eachSize(b, func(b *testing.B, w *world) {
		b.Helper()
		ctx, pod := b.Context(), benchPod(0)
		for b.Loop() {
			w.ours.PreScore(ctx, framework.NewCycleState(), pod, w.nodes)
		}
	})
}

// BenchmarkScore is one pod on one node, of all nodes in turn.
func BenchmarkScore(b *testing.B) {
	eachSize(b, func(b *testing.B, w *world) {
		b.Helper()
		pod, state := benchPod(0), framework.NewCycleState()
		if status := w.ours.PreScore(b.Context(), state, pod, w.nodes); !status.IsSuccess() {
			b.Fatal(status)
		}
		score(b, w.ours, state, pod, w.nodes)
	})
}

// BenchmarkImageLocality is the same for the plugin that kube-scheduler comes with.
func BenchmarkImageLocality(b *testing.B) {
	eachSize(b, func(b *testing.B, w *world) {
		b.Helper()
		score(b, w.theirs, framework.NewCycleState(), benchPod(0), w.nodes)
	})
}

func score(b *testing.B, plugin fwk.ScorePlugin, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) {
	b.Helper()
	ctx, n := context.Background(), 0
	for b.Loop() {
		if _, status := plugin.Score(ctx, state, pod, nodes[n]); !status.IsSuccess() {
			b.Fatal(status)
		}
		if n++; n == len(nodes) {
			n = 0
		}
	}
}

// BenchmarkNormalizeScore is all nodes at once.
func BenchmarkNormalizeScore(b *testing.B) {
	eachSize(b, func(b *testing.B, w *world) {
		b.Helper()
		pod, state := benchPod(0), framework.NewCycleState()
		w.ours.PreScore(b.Context(), state, pod, w.nodes)
		raw := make(fwk.NodeScoreList, len(w.nodes))
		for i, n := range w.nodes {
			raw[i].Score, _ = w.ours.Score(b.Context(), state, pod, n)
		}
		scores := make(fwk.NodeScoreList, len(raw))
		for b.Loop() {
			copy(scores, raw)
			w.ours.NormalizeScore(b.Context(), state, pod, scores)
		}
	})
}
