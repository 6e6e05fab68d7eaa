package install

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Where things go, below the root.
const (
	Program = "/usr/local/bin/edgecache-agent"
	Config  = "/etc/edgecache/agent.yaml"
	Unit    = "/etc/systemd/system/" + unitName
)

// kubeconfigs are where kubelets have theirs: kubeadm's and most others', self-made clusters',
// k3s, RKE2, k0s, MicroK8s.
var kubeconfigs = []string{
	"/etc/kubernetes/kubelet.conf",
	"/var/lib/kubelet/kubeconfig",
	"/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
	"/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
	"/var/lib/k0s/kubelet.conf",
	"/var/snap/microk8s/current/credentials/kubelet.config",
}

// imageDirs are where runtimes keep images: containerd by itself and in k3s, RKE2, k0s and
// MicroK8s, CRI-O, Docker.
var imageDirs = []string{
	"/var/lib/containerd",
	"/var/lib/rancher/k3s/agent/containerd",
	"/var/lib/rancher/rke2/agent/containerd",
	"/var/lib/k0s/containerd",
	"/var/snap/microk8s/common/var/lib/containerd",
	"/var/lib/containers/storage",
	"/var/lib/docker",
}

// podName is the name of the static pod's file.
const podName = "edgecache-agent.yaml"

// manifestDirs are where kubelets look for static pods unless their configuration says
// otherwise: k3s, RKE2, and last kubeadm and most others.
var manifestDirs = []string{
	"/var/lib/rancher/k3s/agent/pod-manifests",
	"/var/lib/rancher/rke2/agent/pod-manifests",
	"/etc/kubernetes/manifests",
}

// Present gives those paths that are there below the root.
func (m Machine) Present(paths ...string) (found []string) {
	for _, p := range paths {
		if _, err := os.Stat(m.path(p)); err == nil {
			found = append(found, p)
		}
	}
	return found
}

// Kubeconfig finds the kubelet's kubeconfig.
func (m Machine) Kubeconfig() (string, error) {
	if found := m.Present(kubeconfigs...); len(found) > 0 {
		return found[0], nil
	}
	return "", fmt.Errorf("found no kubeconfig of a kubelet below %s (looked for %s): name one with --kubeconfig, also one that is still to come, "+
		"or give --manifest DIR to work from ImageCache files without an API server", m.Root, strings.Join(kubeconfigs, ", "))
}

// ImageDirs finds where the runtime keeps its images.
func (m Machine) ImageDirs() ([]string, error) {
	if found := m.Present(imageDirs...); len(found) > 0 {
		return found, nil
	}
	return nil, fmt.Errorf("found no directory with a runtime's images below %s (looked for %s), and the agent must see how full it is: "+
		"name it with --image-dir", m.Root, strings.Join(imageDirs, ", "))
}

// StaticPod gives where the manifest of the static pod goes: where the kubelet's configuration
// says, else the usual place of the distribution that is there.
func (m Machine) StaticPod(kubeletConfig string) string {
	return filepath.Join(slices.Concat(m.configured(kubeletConfig), m.Present(manifestDirs...), manifestDirs[2:])[0], podName)
}

// StaticPods gives all manifests of the agent that are there.
func (m Machine) StaticPods(kubeletConfig string) []string {
	var all []string
	for _, dir := range slices.Concat(m.configured(kubeletConfig), manifestDirs) {
		if file := filepath.Join(dir, podName); !slices.Contains(all, file) {
			all = append(all, file)
		}
	}
	return m.Present(all...)
}

// configured gives the directory that the kubelet's configuration names, if it does.
func (m Machine) configured(kubeletConfig string) []string {
	var c struct {
		StaticPodPath string `json:"staticPodPath"`
	}
	text, err := os.ReadFile(m.path(kubeletConfig))
	if err != nil || yaml.Unmarshal(text, &c) != nil || !filepath.IsAbs(c.StaticPodPath) {
		return nil
	}
	return []string{c.StaticPodPath}
}
