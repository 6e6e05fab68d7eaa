package cluster

import (
	"fmt"
	"io"

	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/toolchain"
)

// A Runtime is what the cluster's nodes run containers on.
type Runtime string

const (
	// Layout nodes run no containers: they are Node objects that the lab keeps Ready, each with a folder in which an agent
	// may keep images. They need no privileges.
	Layout Runtime = "layout"
	// Containerd nodes are machines of their own with real containerd and kubelet. They need root; see [Probe].
	Containerd Runtime = "containerd"
)

// Options say what a cluster consists of. The zero value is a control plane of etcd and API server, and a registry.
type Options struct {
	// Runtime is what nodes run on; empty is Layout.
	Runtime Runtime
	// Nodes is how many nodes there are at first: node-1, node-2, …
	Nodes int
	// Sites is how many sites the nodes are dealt out to in turn: site-1, site-2, …; 0 leaves them without a site.
	Sites int
	// ControllerManager is not nil if kube-controller-manager shall run; pods of containerd nodes need it, unless they do
	// without service account and node taints.
	ControllerManager *controlplane.ControllerManager
	// Scheduler is not nil if a scheduler shall run.
	Scheduler *controlplane.Scheduler
	// PreloadPause puts the sandbox image on containerd nodes before they are Ready; else containerd pulls it from the
	// lab's registry for the first pod, as on most real nodes.
	PreloadPause bool
	// Kubelet is a KubeletConfiguration as YAML whose top-level fields replace the lab's; Containerd is TOML that is
	// appended to containerd's configuration.
	Kubelet    string
	Containerd string
	// Own are folders of the host, such as /etc, that containerd nodes change for themselves alone.
	Own []string
	// APIServerArgs are further flags of kube-apiserver.
	APIServerArgs []string
	// CRDs is a folder of CustomResourceDefinitions to install; empty is none.
	CRDs string
	// Dir is the lab's folder, which then stays when the lab ends; empty is a temporary one.
	Dir string
	// LogDir is the folder of all logs, which stays; empty is a folder within the lab's, which goes with it.
	LogDir string
	// Tools builds what is run; nil is the toolchain of the checkout that the working directory lies in.
	Tools *toolchain.Toolchain
	// Command is the path of the lab's own command line, which the lab runs as janitor and in its machines; empty builds it.
	Command string
	// Out gets one line per step; nil is silent.
	Out io.Writer
}

// ParseRuntime returns the runtime called name.
func ParseRuntime(name string) (Runtime, error) {
	switch r := Runtime(name); r {
	case Layout, Containerd:
		return r, nil
	default:
		return "", fmt.Errorf("runtime %q is unknown; known are %s and %s", name, Layout, Containerd)
	}
}

// withDefaults fills what was left open.
func (o Options) withDefaults() (Options, error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Runtime == "" {
		o.Runtime = Layout
	}
	if _, err := ParseRuntime(string(o.Runtime)); err != nil {
		return o, err
	}
	if o.Nodes < 0 || o.Sites < 0 {
		return o, fmt.Errorf("%d nodes in %d sites: neither can be negative", o.Nodes, o.Sites)
	}
	if o.Tools == nil {
		tools, err := toolchain.Here(o.Out)
		if err != nil {
			return o, err
		}
		o.Tools = tools
	}
	return o, nil
}

// binaries are the names of the lab binaries that such a cluster needs.
func (o Options) binaries() []string {
	names := []string{"etcd", "registry", "kube-apiserver"}
	if o.ControllerManager != nil {
		names = append(names, "kube-controller-manager")
	}
	if o.Scheduler != nil && o.Scheduler.Binary == "" {
		names = append(names, "kube-scheduler")
	}
	if o.Runtime == Containerd {
		names = append(names, "kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "ptp", "loopback", "host-local")
	}
	return names
}

// nodeSpec is the i-th node that the options ask for, counted from 1.
func (o Options) nodeSpec(i int) node.Spec {
	s := node.Spec{Name: fmt.Sprintf("node-%d", i)}
	if o.Sites > 0 {
		s.Site = fmt.Sprintf("site-%d", (i-1)%o.Sites+1)
	}
	return s
}

// step reports progress.
func (o Options) step(format string, args ...any) { fmt.Fprintf(o.Out, format+"\n", args...) }
