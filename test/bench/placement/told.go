package placement

import (
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// telling is how much of the truth the objects for the scheduler carry: a term is left out by not telling what it needs.
type telling struct {
	// layers are told one by one; else an image is one layer of its own.
	layers bool
	// speeds are told.
	speeds bool
	// repositories are told, so that a new tag is taken for the successor of a known one.
	repositories bool
}

// nodeObject is a Node as its kubelet reports it.
func nodeObject(n *node, s *site, held []*image) *corev1.Node {
	size := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(n.milliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(n.milliCPU*2*megabyte, resource.DecimalSI), // 2 GB a core
		corev1.ResourcePods:   *resource.NewQuantity(110, resource.DecimalSI),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{
			corev1.LabelHostname: n.name, corev1.LabelTopologyZone: s.name, v1alpha1.LabelSite: s.name,
			corev1.LabelOSStable: "linux", corev1.LabelArchStable: n.arch,
		}},
		Status: corev1.NodeStatus{
			Capacity: size, Allocatable: size,
			NodeInfo:   corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: n.arch, KubeletVersion: "v1.37.2"},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}},
			Images:     nodeImages(n, held),
		},
	}
}

// nodeImages are what a kubelet lists: both names of each image.
func nodeImages(n *node, held []*image) []corev1.ContainerImage {
	list := []corev1.ContainerImage{}
	for _, i := range held {
		list = append(list, corev1.ContainerImage{Names: []string{i.repository + "@" + i.digest, i.name()}, SizeBytes: i.bytes(n.arch)})
	}
	return list
}

// nodeWish is what the controller wrote.
func nodeWish(wished []*image) v1alpha1.NodeImageCacheSpec {
	var spec v1alpha1.NodeImageCacheSpec
	for _, i := range wished {
		spec.Images = append(spec.Images, v1alpha1.NodeImage{Name: i.name(), Digest: i.digest, Owners: []string{"default/study"}})
	}
	return spec
}

// nodeStatus is what the agent reports. Kubelets pull the images, so to the agent they are others'.
func nodeStatus(n *node, s *site, now float64, held, wished []*image, t telling) v1alpha1.NodeImageCacheStatus {
	status := v1alpha1.NodeImageCacheStatus{
		ObservedGeneration: 1, Platform: "linux/" + n.arch, AgentVersion: "v0.0.0-study",
		Runtime:     v1alpha1.RuntimeInfo{Name: "containerd", Snapshotter: "overlayfs"},
		Registries:  []v1alpha1.RegistryStatus{{Host: registryHost, Reachable: metav1.ConditionTrue, State: "Up"}},
		OtherImages: []v1alpha1.OtherImage{},
	}
	if s.noRegistry > now {
		status.Registries[0].Reachable, status.Registries[0].State = metav1.ConditionFalse, "Down"
	}
	if t.speeds {
		status.Registries[0].BytesPerSecond, status.UnpackBytesPerSecond = n.toldSpeed, n.toldUnpack
	}
	for _, i := range wished {
		one := v1alpha1.NodeImageStatus{Name: i.name(), Digest: i.digest, Phase: v1alpha1.PhasePending, Size: i.bytes(n.arch)}
		if slices.Contains(held, i) {
			one.Phase = v1alpha1.PhaseCached
		}
		status.Images = append(status.Images, one)
	}
	for _, i := range held {
		if !slices.Contains(wished, i) {
			status.OtherImages = append(status.OtherImages, v1alpha1.OtherImage{Digest: i.digest, Names: []string{i.name()}, Size: i.bytes(n.arch)})
		}
	}
	return status
}

// contents are what the controller found out about images.
func contents(p *plan, t telling) map[string]*v1alpha1.ImageContent {
	found := map[string]*v1alpha1.ImageContent{}
	for _, i := range p.images {
		if !p.unresolved[i] {
			c := content(p.seed, i, t)
			found[c.Name] = c
		}
	}
	return found
}

func content(seed uint64, i *image, t telling) *v1alpha1.ImageContent {
	c := &v1alpha1.ImageContent{}
	c.Name = v1alpha1.ContentName(digest.Digest(i.digest))
	if t.repositories {
		c.Repositories = []string{i.repository}
	}
	for _, arch := range slices.Sorted(maps.Keys(i.layers)) {
		one := v1alpha1.PlatformContent{
			OS: "linux", Architecture: arch, Size: i.bytes(arch),
			ManifestDigest: mint(seed, "manifest/"+arch+i.name()), ConfigDigest: mint(seed, "config/"+arch+i.name()),
		}
		for _, l := range i.layers[arch] {
			one.Layers = append(one.Layers, v1alpha1.Layer{Digest: l.digest, Size: l.bytes})
		}
		if !t.layers {
			one.Layers = []v1alpha1.Layer{{Digest: mint(seed, "whole/"+arch+i.name()), Size: i.bytes(arch)}}
		}
		c.Platforms = append(c.Platforms, one)
	}
	return c
}
