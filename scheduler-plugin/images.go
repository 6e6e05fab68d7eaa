package schedulerplugin

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/scheduler-plugin/inventory"
)

// images remembers what references mean, as the same ones come again and again.
type images struct {
	mu    sync.RWMutex
	known map[string]parsed // guarded by mu
}

// parsed is a reference; what is none has no Ref.
type parsed struct {
	ref  imageref.Reference
	name string
}

// maxReferences bounds what is remembered of references.
const maxReferences = 8192

func newImages() *images { return &images{known: map[string]parsed{}} }

func (m *images) parse(text string) parsed {
	m.mu.RLock()
	p, ok := m.known[text]
	m.mu.RUnlock()
	if ok {
		return p
	}
	if ref, err := imageref.Parse(text); err == nil {
		p = parsed{ref, ref.String()}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= maxReferences {
		clear(m.known)
	}
	m.known[text] = p
	return p
}

// wants are the images that a pod needs, sorted, each once for each way it is pulled: of all kinds of containers, and of
// volumes. What is no reference is left to the kubelet to complain about.
func (m *images) wants(pod *corev1.Pod) []inventory.Want {
	spec := &pod.Spec
	out := make([]inventory.Want, 0, len(spec.InitContainers)+len(spec.Containers)+1)
	add := func(image string, policy corev1.PullPolicy) {
		if p := m.parse(image); p.name != "" {
			out = append(out, inventory.Want{Ref: p.ref, Name: p.name, Policy: policyOf(policy, p.ref)})
		}
	}
	for i := range spec.InitContainers {
		add(spec.InitContainers[i].Image, spec.InitContainers[i].ImagePullPolicy)
	}
	for i := range spec.Containers {
		add(spec.Containers[i].Image, spec.Containers[i].ImagePullPolicy)
	}
	for i := range spec.EphemeralContainers {
		add(spec.EphemeralContainers[i].Image, spec.EphemeralContainers[i].ImagePullPolicy)
	}
	for i := range spec.Volumes {
		if source := spec.Volumes[i].Image; source != nil {
			add(source.Reference, source.PullPolicy)
		}
	}
	return inventory.Normalize(out)
}

// policyOf fills in the default of Kubernetes, as for images of volumes.
func policyOf(policy corev1.PullPolicy, ref imageref.Reference) corev1.PullPolicy {
	switch {
	case policy != "":
		return policy
	case ref.Moves():
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}
