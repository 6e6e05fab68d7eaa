package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/product"
)

// installedState is where an installed agent remembers.
const installedState = "/var/lib/edgecache"

// TestStaticPod: the agent's own image, as a release builds it, under a real kubelet, as
// install puts it there. It comes up while the API server is away, also after a power cut, and
// after it was killed; what it held it brings back without the API server.
func TestStaticPod(t *testing.T) {
	t.Parallel()
	w := newCluster(t, cluster.Options{Nodes: 1, Own: []string{"/etc"}})
	n := w.lab.Nodes()[0]
	m := w.machine(n)
	pos := w.push("retail/pos:v1", 1<<20, 1)
	w.apply(pos.Name)
	if _, err := w.lab.ControlPlane().ApplyFile(t.Context(), "../../edgeagent/rbac-kubelet.yaml"); err != nil {
		t.Fatal(err)
	}
	image := w.pushProgram("edgecache-agent")
	w.likeKubeadm(n)

	t.Log("installed without settings while the API server is away, it runs and answers")
	w.stopAPIServer()
	w.install(m.Exec, "--static-pod", "--image", image)
	w.answers(n)

	t.Log("the API server is there: it has the kubelet's identity, and does its work")
	w.startAPIServer()
	w.untilReady(1)
	w.expectCached(n, pos)
	nic, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(t.Context(), n.Name(), metav1.GetOptions{})
	if err != nil || nic.Status.Heartbeat != v1alpha1.HeartbeatNode {
		t.Errorf("heartbeat %q, %v: want that of the kubelet's Node", nic.Status.Heartbeat, err)
	}

	t.Log("without the API server: killed, it is back, and an image removed by hand is, too")
	w.stopAPIServer()
	was := w.agentContainer(n)
	if out, err := m.Ctr(t.Context(), "tasks", "kill", "--signal", "SIGKILL", was); err != nil {
		t.Fatal(out, err)
	}
	w.eventually("the kubelet starts it again", func() error {
		if is := w.agentContainer(n); is == was || is == "" {
			return fmt.Errorf("container %q", is)
		}
		return nil
	})
	w.answers(n, pos.Name)
	w.remove(n, pos)
	w.expectCached(n, pos)

	t.Log("the box loses its power, and comes up without the API server")
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := m.PowerOnAlone(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.answers(n, pos.Name)
	t.Logf("it told what is there %s after the kubelet served", time.Since(began).Round(time.Second))
	w.remove(n, pos)
	w.expectCached(n, pos)

	t.Log("with the API server back the node is Ready, and the kubelet finds the agent alive")
	w.startAPIServer()
	w.untilReady(1)
	w.eventually("the kubelet asked whether the agent lives", func() error { return w.probed(n) })

	t.Log("uninstalled it ends, and what it held stays, pinned")
	w.uninstall(m.Exec)
	w.eventually("it ends", func() error {
		if is := w.agentContainer(n); is != "" {
			return fmt.Errorf("container %q", is)
		}
		return nil
	})
	w.expectCached(n, pos)
}

// pushProgram builds a program's image as a release does, and gives where it is in the lab's
// registry.
func (w *world) pushProgram(name string) string {
	w.Helper()
	out := w.TempDir()
	build := exec.CommandContext(w.Context(), "go", "run", "./internal/release", "images", "--version", product.Version,
		"--platforms", "linux/"+runtime.GOARCH, "--out", out, name)
	build.Dir = w.lab.Tools().Root()
	if said, err := build.CombinedOutput(); err != nil {
		w.Fatalf("building the image of %s: %v\n%s", name, err, said)
	}
	top, err := layout.ImageIndexFromPath(filepath.Join(out, name))
	if err != nil {
		w.Fatal(err)
	}
	m, err := top.IndexManifest()
	if err != nil {
		w.Fatal(err)
	}
	index, err := top.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		w.Fatal(err)
	}
	pushed, err := w.lab.Push(w.Context(), "edgecache/"+name+":"+product.Version, index)
	if err != nil {
		w.Fatal(err)
	}
	return pushed.Name
}

// execute runs a command on a node.
type execute func(ctx context.Context, argv ...string) (string, error)

// asKubeadm puts what the lab has elsewhere where a node of kubeadm's has it: the hostname, the kubelet's configuration and
// identity, containerd's registry settings.
const asKubeadm = `set -e
hostname >/etc/hostname
mkdir -p /etc/kubernetes /etc/containerd /var/lib/kubelet/pki
cp "$1"/kubelet.yaml /var/lib/kubelet/config.yaml
cp -r "$1"/certs.d /etc/containerd/
cd "$(dirname "$2")"
cp kubelet-client-current.pem /var/lib/kubelet/pki/
sed "s#$PWD/kubelet-client-current.pem#/var/lib/kubelet/pki/kubelet-client-current.pem#" kubelet.conf >/etc/kubernetes/kubelet.conf`

// likeKubeadm makes a machine's own /etc that of a node of kubeadm's.
func (w *world) likeKubeadm(n *node.Node) {
	w.Helper()
	kubeconfig, write := w.product.KubeletKubeconfig(n)
	if err := write(); err != nil {
		w.Fatal(err)
	}
	if out, err := w.machine(n).Exec(w.Context(), "sh", "-c", asKubeadm, "sh", n.Dir(), kubeconfig); err != nil {
		w.Fatal(out, err)
	}
}

// install installs the agent on a node, with the settings that there are.
func (w *world) install(on execute, args ...string) {
	w.Helper()
	argv := append([]string{w.product.AgentProgram(), "install", "--disk-reserve", "64Mi"}, args...)
	out, err := on(w.Context(), argv...)
	if err != nil {
		w.Fatal(out, err)
	}
	w.Log(out)
}

// uninstall takes the agent off again.
func (w *world) uninstall(on execute) {
	w.Helper()
	out, err := on(w.Context(), w.product.AgentProgram(), "install", "--uninstall")
	if err != nil {
		w.Fatal(out, err)
	}
	w.Log(out)
}

func (w *world) stopAPIServer() {
	w.Helper()
	if err := w.lab.ControlPlane().KillAPIServer(); err != nil {
		w.Fatal(err)
	}
}

func (w *world) startAPIServer() {
	w.Helper()
	if err := w.lab.ControlPlane().StartAPIServer(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// answers waits until a node's installed agent says that exactly these images are wished and
// there, as the runtime told it.
func (w *world) answers(n *node.Node, names ...string) {
	w.Helper()
	dir := w.machine(n).Outside(installedState)
	w.eventually(fmt.Sprintf("the agent says that it holds %q", names), func() error {
		status, err := local.Ask(w.Context(), dir)
		if err != nil {
			return err
		}
		if status.Source != local.FromRuntime || len(status.Images) < len(names) {
			return fmt.Errorf("it says %+v", status)
		}
		for _, name := range names {
			if !holds(status, name) {
				return fmt.Errorf("it says %+v", status)
			}
		}
		return nil
	})
}

func holds(status *local.Status, name string) bool {
	for _, i := range status.Images {
		if i.Name == name {
			return i.Phase == v1alpha1.PhaseCached
		}
	}
	return false
}

// agentContainer is the id of the agent's running container, "" for none.
func (w *world) agentContainer(n *node.Node) string {
	w.Helper()
	conn, err := grpc.NewClient("unix://"+w.machine(n).Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	list, err := cri.NewRuntimeServiceClient(conn).ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State:         &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
		LabelSelector: map[string]string{"io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.container.name": "agent"},
	}})
	if err != nil {
		w.Fatal(err)
	}
	if len(list.GetContainers()) == 0 {
		return ""
	}
	return list.GetContainers()[0].GetId()
}

// liveness is the kubelet's count of the probes of the agent.
var liveness = regexp.MustCompile(`(?m)^prober_probe_total\{container="agent",.*probe_type="Liveness",result="(\w+)"\} \d+`)

// probed says whether the kubelet found the agent alive, and never anything else.
func (w *world) probed(n *node.Node) error {
	text, err := w.lab.Client().CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", n.Name(), "proxy/metrics/probes").DoRaw(w.Context())
	if err != nil {
		return err
	}
	found := liveness.FindAllStringSubmatch(string(text), -1)
	for _, f := range found {
		if f[1] != "successful" {
			w.Fatalf("the kubelet counted: %v", found)
		}
	}
	if len(found) == 0 {
		return errors.New("none yet")
	}
	return nil
}
