package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"edgecache.dev/test/lab/cgroup"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/leftover"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
)

// hello pushes a runnable image and returns its reference.
func hello(t *testing.T, c *Cluster, reference string, layers ...testimage.Random) string {
	t.Helper()
	program, err := testimage.Hello.Build(t.Context(), c.Tools(), "")
	must(t, err)
	image, err := testimage.Image(testimage.Spec{Program: program, Layers: layers})
	must(t, err)
	pushed, err := c.Push(t.Context(), reference, image)
	must(t, err)
	return pushed.Name
}

// pod makes a pod on a node.
func pod(t *testing.T, c *Cluster, name, nodeName, image string, args ...string) {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: corev1.PodSpec{
			NodeName:                      nodeName,
			TerminationGracePeriodSeconds: new(int64(1)),
			Containers:                    []corev1.Container{{Name: "c", Image: image, Args: args, ImagePullPolicy: corev1.PullIfNotPresent}},
		},
	}
	// The service account that every pod wants comes a moment after its namespace.
	var failed error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		_, failed = c.Client().CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{})
		return failed == nil || apierrors.IsAlreadyExists(failed), nil
	})
	if err != nil {
		t.Fatalf("making pod %s: %v (%v)", name, err, failed)
	}
}

// awaitPod waits until a pod is as done says, and else prints what it and its events are like.
func awaitPod(t *testing.T, c *Cluster, name string, done func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var p *corev1.Pod
	var failed error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		p, failed = c.Client().CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		return failed == nil && done(p), nil
	})
	if err != nil {
		t.Fatalf("waiting for pod %s: %v (%v)\nstatus: %+v\nevents:\n%s", name, err, failed, p.Status, events(t, c, name))
	}
	return p
}

func events(t *testing.T, c *Cluster, pod string) string {
	t.Helper()
	list, err := c.Client().CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
	must(t, err)
	var b strings.Builder
	for _, e := range list.Items {
		fmt.Fprintf(&b, "%s: %s\n", e.Reason, e.Message)
	}
	return b.String()
}

func running(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodRunning && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].Ready
}

//nolint:paralleltest,tparallel // The steps share a cluster, and follow each other.
func TestContainerdCluster(t *testing.T) {
	t.Parallel()
	RequireRuntime(t, Containerd)
	panicBefore, err := os.ReadFile("/proc/sys/kernel/panic")
	must(t, err)
	groupsBefore := foreignGroups(t)
	c := ForTest(t, Options{
		Nodes: 2, Sites: 2, Runtime: Containerd,
		ControllerManager: &controlplane.ControllerManager{NodeMonitorGrace: grace}, Scheduler: &controlplane.Scheduler{},
	})
	image := hello(t, c, "hello:v1", testimage.Random{Seed: 1, Size: 1 << 20})
	t.Run("a pod runs and logs", func(t *testing.T) { testPod(t, c, image) })
	t.Run("an image that is there is not fetched", func(t *testing.T) { testPresent(t, c, image) })
	t.Run("a pod reaches the API server by the service's address", func(t *testing.T) { testService(t, c, image) })
	t.Run("SIGKILL of containerd and kubelet leaves pods running", func(t *testing.T) { testKills(t, c, image) })
	t.Run("a static pod runs", func(t *testing.T) { testStaticPod(t, c, image) })
	t.Run("a program on the node sees the node", func(t *testing.T) { testProgram(t, c) })
	t.Run("a registry out of reach fails pulls at once", func(t *testing.T) { testBlocked(t, c) })
	t.Run("a silent line makes a node unready", func(t *testing.T) { testLine(t, c) })
	t.Run("a node comes back from a power cut", func(t *testing.T) { testPower(t, c) })
	t.Run("nodes come and go", func(t *testing.T) { testMachinesComeAndGo(t, c, image) })
	must(t, c.Close())
	testNothingLeft(t, c)
	if after, err := os.ReadFile("/proc/sys/kernel/panic"); err != nil || string(after) != string(panicBefore) {
		t.Errorf("a kernel setting of the host was %s and is %s, %v", panicBefore, after, err)
	}
	if diff := cmp.Diff(groupsBefore, foreignGroups(t)); diff != "" {
		t.Errorf("the machine's control groups (-before +after):\n%s", diff)
	}
}

// foreign matches the uppermost control groups that a kubelet, containerd or runc would make on a machine of its own. Others
// come and go with what else runs on the host.
var foreign = regexp.MustCompile(`^(kube.*|k8s\.io|[0-9a-f]{64})$`)

// foreignGroups lists those that belong to no lab.
func foreignGroups(t *testing.T) []string {
	t.Helper()
	points, err := cgroup.Hierarchies()
	must(t, err)
	var groups []string
	for _, point := range points {
		entries, err := os.ReadDir(point)
		must(t, err)
		for _, e := range entries {
			if e.IsDir() && foreign.MatchString(e.Name()) {
				groups = append(groups, filepath.Join(point, e.Name()))
			}
		}
	}
	return groups
}

func testPod(t *testing.T, c *Cluster, image string) {
	// The scheduler chooses for the first, the second is told.
	pod(t, c, "first", "", image)
	pod(t, c, "second", "node-2", image)
	for _, name := range []string{"first", "second"} {
		awaitPod(t, c, name, running)
		awaitPodLog(t, c, name, "hello from "+name)
	}
	if n := getNode(t, c, "node-2"); n.Labels[node.SiteLabel] != "site-2" || n.Status.NodeInfo.BootID != c.Machine("node-2").BootID() {
		t.Errorf("node-2 has labels %v, boot id %s", n.Labels, n.Status.NodeInfo.BootID)
	}
}

// awaitPodLog waits until a pod has printed text.
func awaitPodLog(t *testing.T, c *Cluster, name, text string) {
	t.Helper()
	var log []byte
	var failed error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		log, failed = c.Client().CoreV1().Pods("default").GetLogs(name, &corev1.PodLogOptions{}).DoRaw(ctx)
		return failed == nil && strings.Contains(string(log), text), nil
	})
	if err != nil {
		t.Errorf("waiting for %q in the log of %s: %v (%v), it is %q", text, name, err, failed, log)
	}
}

func testPresent(t *testing.T, c *Cluster, image string) {
	c.Registry().ResetRequests()
	pod(t, c, "again", "node-2", image)
	awaitPod(t, c, "again", running)
	if n := len(c.Registry().Requests()); n != 0 {
		t.Errorf("%d requests to the registry: %v", n, c.Registry().Requests())
	}
	if got := events(t, c, "again"); !strings.Contains(got, "already present on machine") {
		t.Errorf("events:\n%s", got)
	}
}

func testService(t *testing.T, c *Cluster, image string) {
	service, err := c.Client().CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	must(t, err)
	address := net.JoinHostPort(service.Spec.ClusterIP, "443")
	pod(t, c, "client", "node-1", image, "-dial", address)
	awaitPod(t, c, "client", running)
	awaitPodLog(t, c, "client", "dialled "+address+": <nil>")
}

func testKills(t *testing.T, c *Cluster, image string) {
	m := c.Machine("node-2")
	before := awaitPod(t, c, "second", running)
	must(t, m.Containerd().Kill(), m.Kubelet().Kill(), m.StartContainerd(t.Context()), m.StartKubelet(t.Context()))
	pod(t, c, "afterwards", "node-2", image)
	awaitPod(t, c, "afterwards", running)
	after := awaitPod(t, c, "second", running)
	if b, a := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID {
		t.Errorf("the container was replaced: %s by %s", b.ContainerID, a.ContainerID)
	}
}

func testStaticPod(t *testing.T, c *Cluster, image string) {
	manifest := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: static}\nspec:\n  containers: [{name: c, image: %q}]\n", image)
	path := filepath.Join(c.Machine("node-1").ManifestDir(), "static.yaml")
	must(t, os.WriteFile(path, []byte(manifest), 0o600))
	awaitPod(t, c, "static-node-1", running)
	must(t, os.Remove(path))
}

func testProgram(t *testing.T, c *Cluster) {
	n := c.Node("node-1")
	p, err := n.Run("looker", []string{"/bin/sh", "-c", "hostname; ls /run/containerd/containerd.sock; cat $KUBECONFIG | grep -c client-key; sleep 600"},
		"KUBECONFIG="+n.Kubeconfig())
	must(t, err)
	awaitLog(t, p, "node-1\n/run/containerd/containerd.sock\n1")
	must(t, p.Kill(), p.Restart(), p.Kill())
	if _, err := os.Stat(c.Machine("node-1").Socket()); err != nil {
		t.Errorf("containerd's socket is not seen from outside: %v", err)
	}
}

func testBlocked(t *testing.T, c *Cluster) {
	image := hello(t, c, "blocked:v1", testimage.Random{Seed: 2, Size: 1000})
	link := c.Machine("node-1").Link()
	must(t, link.Block(t.Context(), c.Network().Registry().Addr()))
	pod(t, c, "blocked", "node-1", image)
	p := awaitPod(t, c, "blocked", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			p.Status.ContainerStatuses[0].State.Waiting.Reason == "ErrImagePull"
	})
	if why := p.Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(why, "no route to host") {
		t.Errorf("the pull failed with %s", why)
	}
	must(t, link.Unblock(t.Context(), c.Network().Registry().Addr()))
	awaitPod(t, c, "blocked", running)
	from := func(r registry.Request) bool { return r.Client == c.Node("node-1").IP() && r.Repository == "blocked" }
	if len(c.Registry().Requests().Where(from)) == 0 {
		t.Error("the registry did not see the node under its address")
	}
}

func testLine(t *testing.T, c *Cluster) {
	link := c.Machine("node-1").Link()
	must(t, link.Down(t.Context()), c.AwaitReady(t.Context(), "node-1", false))
	if n := getNode(t, c, "node-1"); n.Status.Conditions[len(n.Status.Conditions)-1].Reason != "NodeStatusUnknown" {
		t.Errorf("conditions are %+v", n.Status.Conditions)
	}
	must(t, link.Up(t.Context()), c.AwaitReady(t.Context(), "node-1", true))
	must(t, c.Node("node-1").PauseHeartbeat(), c.AwaitReady(t.Context(), "node-1", false))
	must(t, c.Node("node-1").ResumeHeartbeat(), c.AwaitReady(t.Context(), "node-1", true))
}

func testPower(t *testing.T, c *Cluster) {
	n, m := c.Node("node-2"), c.Machine("node-2")
	boot := m.BootID()
	restarts := func(p *corev1.Pod) int32 { return p.Status.ContainerStatuses[0].RestartCount }
	before := restarts(awaitPod(t, c, "second", running))
	must(t, n.Stop())
	if m.Containerd().Running() || m.Kubelet().Running() {
		t.Error("programs run on a machine that is off")
	}
	if _, err := m.Exec(t.Context(), "true"); err == nil {
		t.Error("a command ran on a machine that is off")
	}
	c.Registry().ResetRequests()
	must(t, n.Start(t.Context()))
	if m.BootID() == boot {
		t.Error("the boot id is that of the former start")
	}
	awaitPod(t, c, "second", func(p *corev1.Pod) bool { return running(p) && restarts(p) == before+1 })
	if log := c.Registry().Requests().From(n.IP()); len(log) != 0 {
		t.Errorf("the images were not kept: %v", log)
	}
	images, err := m.Ctr(t.Context(), "images", "list", "-q")
	must(t, err)
	if !strings.Contains(images, "/hello:v1\n") || !strings.Contains(images, "/lab/pause:1\n") {
		t.Errorf("images are %s", images)
	}
}

func testMachinesComeAndGo(t *testing.T, c *Cluster, image string) {
	n, err := c.AddNode(t.Context(), node.Spec{Labels: map[string]string{"tier": "gold"}})
	must(t, err)
	if got := getNode(t, c, n.Name()).Labels; n.Name() != "node-3" || got["tier"] != "gold" || got[node.SiteLabel] != "site-1" {
		t.Errorf("%s has labels %v", n.Name(), got)
	}
	pod(t, c, "late", "node-3", image)
	awaitPod(t, c, "late", running)
	must(t, c.RemoveNode(t.Context(), "node-3"))
	if _, err := c.Client().CoreV1().Nodes().Get(t.Context(), "node-3", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the removed node: %v", err)
	}
}

// testNothingLeft looks for what a closed lab could have left on the machine.
func testNothingLeft(t *testing.T, c *Cluster) {
	t.Helper()
	left, err := leftover.Of(c.Dir(), c.dir.Lab())
	must(t, err)
	for _, what := range left {
		t.Error("left behind: " + what)
	}
}

func TestTwoContainerdClustersSideBySide(t *testing.T) {
	t.Parallel()
	RequireRuntime(t, Containerd)
	options := Options{
		Nodes: 1, Runtime: Containerd, PreloadPause: true,
		Kubelet: "maxPods: 42", Containerd: "[debug]\n  level = 'debug'",
	}
	a, b := ForTest(t, options), ForTest(t, options)
	for _, c := range []*Cluster{a, b} {
		image := hello(t, c, "hello:v1")
		// Without a controller manager there is no service account, hence a pod of the node's own.
		manifest := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: static}\nspec:\n  containers: [{name: c, image: %q}]\n", image)
		must(t, os.WriteFile(filepath.Join(c.Machine("node-1").ManifestDir(), "static.yaml"), []byte(manifest), 0o600))
	}
	for _, c := range []*Cluster{a, b} {
		awaitPod(t, c, "static-node-1", running)
		if n := getNode(t, c, "node-1").Status.Capacity.Pods().Value(); n != 42 {
			t.Errorf("the node takes %d pods: the kubelet's configuration was not used", n)
		}
		pause := func(r registry.Request) bool { return r.Repository == "lab/pause" }
		if log := c.Registry().Requests().Where(pause); len(log) != 0 {
			t.Errorf("the sandbox image was fetched though it was there: %v", log)
		}
	}
	must(t, a.Close())
	testNothingLeft(t, a)
	must(t, b.AwaitReady(t.Context(), "node-1", true))
	must(t, b.Close())
	testNothingLeft(t, b)
}
