package toolchain

import (
	"fmt"
	"strings"
)

// A Binary is one program of the lab that is built from the nested module.
type Binary struct {
	// Name is the file's name in .cache/bin.
	Name string
	// ImportPath is the main package, a tool of its module.
	ImportPath string
	// stamp says which version variables the program carries.
	stamp versionStamp
	// module is the folder of the module below test/lab/binaries, for a program whose requirements do not agree with
	// those of the others; empty is test/lab/binaries itself.
	module string
	// tags leave out what the lab does not use and what needs a C library.
	tags string
}

// A versionStamp is the family of linker flags a binary needs so that it knows its own version.
type versionStamp int

const (
	unstamped versionStamp = iota
	kubernetesVersion
	containerdVersion
)

const (
	kubernetesModule = "k8s.io/kubernetes"
	containerdModule = "github.com/containerd/containerd/v2"
)

// Binaries lists what the lab can build, the binaries that every lab needs first.
func Binaries() []Binary {
	const (
		kubernetes = kubernetesModule + "/cmd/"
		containerd = containerdModule + "/cmd/"
		cni        = "github.com/containernetworking/plugins/plugins/"
	)
	return []Binary{
		{Name: "etcd", ImportPath: "go.etcd.io/etcd/server/v3"},
		{Name: "registry", ImportPath: "github.com/distribution/distribution/v3/cmd/registry"},
		{Name: "kube-apiserver", ImportPath: kubernetes + "kube-apiserver", stamp: kubernetesVersion},
		{Name: "kube-controller-manager", ImportPath: kubernetes + "kube-controller-manager", stamp: kubernetesVersion},
		{Name: "kube-scheduler", ImportPath: kubernetes + "kube-scheduler", stamp: kubernetesVersion},
		{Name: "kubectl", ImportPath: kubernetes + "kubectl", stamp: kubernetesVersion},
		{Name: "kubelet", ImportPath: kubernetes + "kubelet", stamp: kubernetesVersion},
		{Name: "containerd", ImportPath: containerd + "containerd", stamp: containerdVersion},
		{Name: "containerd-shim-runc-v2", ImportPath: containerd + "containerd-shim-runc-v2", stamp: containerdVersion},
		{Name: "ctr", ImportPath: containerd + "ctr", stamp: containerdVersion},
		{Name: "ptp", ImportPath: cni + "main/ptp"},
		{Name: "loopback", ImportPath: cni + "main/loopback"},
		{Name: "host-local", ImportPath: cni + "ipam/host-local"},
		{Name: "crio", ImportPath: "github.com/cri-o/cri-o/cmd/crio", module: "crio",
			tags: "exclude_graphdriver_btrfs,btrfs_noversion,containers_image_openpgp,containers_image_ostree_stub"},
		{Name: "dockerd", ImportPath: "github.com/moby/moby/v2/cmd/dockerd", module: "dockerd",
			tags: "exclude_graphdriver_btrfs,exclude_graphdriver_zfs"},
		{Name: "cri-dockerd", ImportPath: "github.com/Mirantis/cri-dockerd", module: "cri-dockerd"},
		{Name: "helm", ImportPath: "helm.sh/helm/v4/cmd/helm", module: "helm"},
	}
}

// Names returns the names of all lab binaries.
func Names() []string {
	var names []string
	for _, b := range Binaries() {
		names = append(names, b.Name)
	}
	return names
}

// lookup returns the named binaries in the order of the table, which puts the quick ones first.
func lookup(names []string) ([]Binary, error) {
	wanted := make(map[string]bool, len(names))
	for _, n := range names {
		wanted[n] = true
	}
	var found []Binary
	for _, b := range Binaries() {
		if wanted[b.Name] {
			found = append(found, b)
			delete(wanted, b.Name)
		}
	}
	for n := range wanted {
		return nil, fmt.Errorf("lab binary %q is unknown; known are %s", n, strings.Join(Names(), ", "))
	}
	return found, nil
}

// ldflags returns the linker flags of b for the module versions that gomod requires.
func (b Binary) ldflags(gomod string) (string, error) {
	switch b.stamp {
	case kubernetesVersion:
		return kubernetesFlags(gomod)
	case containerdVersion:
		v, err := moduleVersion(gomod, containerdModule)
		return fmt.Sprintf("-s -w -X %s/version.Version=%s", containerdModule, v), err
	default:
		return "-s -w", nil
	}
}

// kubernetesFlags stamps the version into a Kubernetes component: kubectl refuses to talk with the default one, and the
// API server derives its feature set from it.
func kubernetesFlags(gomod string) (string, error) {
	v, err := moduleVersion(gomod, kubernetesModule)
	if err != nil {
		return "", err
	}
	major, rest, _ := strings.Cut(strings.TrimPrefix(v, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	const pkg = "k8s.io/component-base/version"
	return fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s"+
		" -X k8s.io/client-go/pkg/version.gitVersion=%[2]s", pkg, v, major, minor), nil
}

// moduleVersion returns the version of module in the text of a go.mod file.
func moduleVersion(gomod, module string) (string, error) {
	for line := range strings.Lines(gomod) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && fields[0] == module {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("go.mod of the lab binaries does not require %s", module)
}
