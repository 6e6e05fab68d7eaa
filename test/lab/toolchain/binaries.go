package toolchain

import (
	"fmt"
	"strings"
)

// A Binary is one program of the lab that is built from the nested module.
type Binary struct {
	// Name is the file's name in .cache/bin.
	Name string
	// ImportPath is the main package, a tool of test/lab/binaries/go.mod.
	ImportPath string
	// stamp says which version variables the program carries.
	stamp versionStamp
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
		{"etcd", "go.etcd.io/etcd/server/v3", unstamped},
		{"registry", "github.com/distribution/distribution/v3/cmd/registry", unstamped},
		{"kube-apiserver", kubernetes + "kube-apiserver", kubernetesVersion},
		{"kube-controller-manager", kubernetes + "kube-controller-manager", kubernetesVersion},
		{"kube-scheduler", kubernetes + "kube-scheduler", kubernetesVersion},
		{"kubectl", kubernetes + "kubectl", kubernetesVersion},
		{"kubelet", kubernetes + "kubelet", kubernetesVersion},
		{"containerd", containerd + "containerd", containerdVersion},
		{"containerd-shim-runc-v2", containerd + "containerd-shim-runc-v2", containerdVersion},
		{"ctr", containerd + "ctr", containerdVersion},
		{"ptp", cni + "main/ptp", unstamped},
		{"loopback", cni + "main/loopback", unstamped},
		{"host-local", cni + "ipam/host-local", unstamped},
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
