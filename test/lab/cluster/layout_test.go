package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/omit"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/testimage"
)

func getNode(t *testing.T, c *Cluster, name string) *corev1.Node {
	t.Helper()
	n, err := c.Client().CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

//nolint:paralleltest,tparallel // The steps share a cluster, and follow each other.
func TestLayoutCluster(t *testing.T) {
	t.Parallel()
	c := ForTest(t, Options{Nodes: 3, Sites: 2})
	t.Run("nodes are Ready and dealt out to sites", func(t *testing.T) { testSites(t, c) })
	t.Run("images are pushed", func(t *testing.T) { testPush(t, c) })
	t.Run("a node has its kubelet's rights", func(t *testing.T) { testIdentity(t, c) })
	t.Run("programs run beside the control plane", func(t *testing.T) { testServers(t, c) })
	t.Run("programs end with their node and come back", func(t *testing.T) { testPrograms(t, c) })
	t.Run("a silent node is unready", func(t *testing.T) { testSilence(t, c) })
	t.Run("nodes come and go", func(t *testing.T) { testComeAndGo(t, c) })
	t.Run("a node outlives an outage of the API server", func(t *testing.T) { testOutage(t, c) })
	t.Run("a deleted node stays deleted until it starts again", func(t *testing.T) { testDeleted(t, c) })
}

func testSites(t *testing.T, c *Cluster) {
	var sites []string
	for _, n := range c.Nodes() {
		object := getNode(t, c, n.Name())
		ready, why := readiness(object)
		if !ready || len(object.Spec.Taints) > 0 || object.Labels["kubernetes.io/os"] != "linux" {
			t.Errorf("%s: %s, taints %v, labels %v", n.Name(), why, object.Spec.Taints, object.Labels)
		}
		sites = append(sites, n.Name()+" "+object.Labels[node.SiteLabel])
	}
	if diff := cmp.Diff([]string{"node-1 site-1", "node-2 site-2", "node-3 site-1"}, sites); diff != "" {
		t.Errorf("sites (-want +got):\n%s", diff)
	}
}

func testPush(t *testing.T, c *Cluster) {
	index, err := testimage.Index(testimage.Spec{Layers: []testimage.Random{{Seed: 1, Size: 100_000}}}, testimage.Platforms()...)
	must(t, err)
	pushed, err := c.Push(t.Context(), "pos:v1", index)
	must(t, err)
	if !strings.HasPrefix(pushed.Name, c.Registry().Addr()+"/pos:v1") || len(c.Registry().Requests()) != 0 {
		t.Errorf("pushed %+v, %d requests counted", pushed, len(c.Registry().Requests()))
	}
}

func testIdentity(t *testing.T, c *Cluster) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Node("node-1").Kubeconfig())
	must(t, err)
	client, err := kubernetes.NewForConfig(config)
	must(t, err)
	if _, err := client.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{}); err != nil {
		t.Errorf("node-1 reads itself: %v", err)
	}
	err = client.CoreV1().Nodes().Delete(t.Context(), "node-2", metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("node-1 deletes node-2: %v, want forbidden", err)
	}
}

func testServers(t *testing.T, c *Cluster) {
	p, err := c.Run("controller", []string{"/bin/sh", "-c", "echo $COLOUR; exec sleep 600"}, "COLOUR=blue")
	must(t, err)
	awaitLog(t, p, "blue")
	must(t, p.Kill(), p.Restart())
	if want := filepath.Join(c.LogDir(), "controller.log"); p.Log() != want {
		t.Errorf("log is %s, want %s", p.Log(), want)
	}
}

func testPrograms(t *testing.T, c *Cluster) {
	n := c.Node("node-1")
	p, err := n.Run("agent", []string{"/bin/sh", "-c", "echo $COLOUR in $PWD; exec sleep 600"}, "COLOUR=red")
	must(t, err)
	awaitLog(t, p, "red in "+n.Dir())
	if want := filepath.Join(c.LogDir(), "node-1", "agent.log"); p.Log() != want {
		t.Errorf("log is %s, want %s", p.Log(), want)
	}
	must(t, n.Stop())
	if p.Running() {
		t.Error("the program outlived its node")
	}
	if err := p.Restart(); err == nil {
		t.Error("a program was started on a node that is off")
	}
	must(t, c.AwaitReady(t.Context(), "node-1", false), n.Start(t.Context()), c.AwaitReady(t.Context(), "node-1", true), p.Restart())
	if !p.Running() {
		t.Error("the program did not come back")
	}
}

func awaitLog(t *testing.T, p *process.Process, text string) {
	t.Helper()
	must(t, p.WaitReady(t.Context(), func(context.Context) error {
		log, err := os.ReadFile(p.Log())
		if err == nil && !strings.Contains(string(log), text) {
			err = os.ErrNotExist
		}
		return err
	}))
}

func testSilence(t *testing.T, c *Cluster) {
	n := c.Node("node-2")
	p, err := n.Run("survivor", []string{"/bin/sleep", "600"})
	must(t, err, n.PauseHeartbeat(), c.AwaitReady(t.Context(), "node-2", false))
	if !p.Running() {
		t.Error("silence ended a program")
	}
	must(t, n.ResumeHeartbeat(), c.AwaitReady(t.Context(), "node-2", true))
}

func testComeAndGo(t *testing.T, c *Cluster) {
	n, err := c.AddNode(t.Context(), node.Spec{Labels: map[string]string{"tier": "gold"}})
	must(t, err)
	if n.Name() != "node-4" || n.Site() != "site-2" || getNode(t, c, "node-4").Labels["tier"] != "gold" {
		t.Errorf("got %s in %s with labels %v", n.Name(), n.Site(), getNode(t, c, "node-4").Labels)
	}
	if _, err := c.AddNode(t.Context(), node.Spec{Name: "node-4"}); err == nil {
		t.Error("two nodes of one name")
	}
	must(t, c.RemoveNode(t.Context(), "node-4"))
	_, err = c.Client().CoreV1().Nodes().Get(t.Context(), "node-4", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) || c.Node("node-4") != nil {
		t.Errorf("after the removal: %v", err)
	}
	if err := c.RemoveNode(t.Context(), "node-4"); err == nil {
		t.Error("removed twice")
	}
}

func testOutage(t *testing.T, c *Cluster) {
	must(t, c.ControlPlane().KillAPIServer(), c.Node("node-3").PauseHeartbeat(), c.ControlPlane().StartAPIServer(t.Context()))
	must(t, c.AwaitReady(t.Context(), "node-3", false), c.Node("node-3").ResumeHeartbeat(), c.AwaitReady(t.Context(), "node-3", true))
}

func testDeleted(t *testing.T, c *Cluster) {
	n := c.Node("node-3")
	before := getNode(t, c, "node-3").UID
	must(t, c.Client().CoreV1().Nodes().Delete(t.Context(), "node-3", metav1.DeleteOptions{}))
	must(t, n.PauseHeartbeat(), n.ResumeHeartbeat())
	time.Sleep(2 * time.Second)
	if _, err := c.Client().CoreV1().Nodes().Get(t.Context(), "node-3", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a heartbeat brought the node back: %v", err)
	}
	must(t, n.Stop(), n.Start(t.Context()))
	if after := getNode(t, c, "node-3").UID; after == before {
		t.Error("the node was not made anew")
	}
}

// grace is after how much silence of a node the controller manager loses patience: four heartbeats, so that a busy machine
// does not take one for silence.
const grace = 40 * time.Second

func TestTheControllerManagerJudgesSilence(t *testing.T) {
	t.Parallel()
	c := ForTest(t, Options{Nodes: 2, ControllerManager: &controlplane.ControllerManager{NodeMonitorGrace: grace}})
	must(t, c.AwaitReady(t.Context(), "node-1", true), c.Node("node-1").PauseHeartbeat(), c.AwaitReady(t.Context(), "node-1", false))
	unreachable := func(taint corev1.Taint) bool { return taint.Key == corev1.TaintNodeUnreachable }
	if n := getNode(t, c, "node-1"); !slices.ContainsFunc(n.Spec.Taints, unreachable) {
		t.Errorf("taints are %v: this was not the controller manager", n.Spec.Taints)
	}
	must(t, c.Node("node-1").ResumeHeartbeat(), c.AwaitReady(t.Context(), "node-1", true))
	must(t, c.AwaitReady(t.Context(), "node-2", true))
}

func TestTwoLayoutClustersSideBySide(t *testing.T) {
	t.Parallel()
	a, b := ForTest(t, Options{Nodes: 1}), ForTest(t, Options{Nodes: 1})
	must(t, a.ControlPlane().Ready(t.Context()), b.ControlPlane().Ready(t.Context()))
	if a.Registry().Addr() == b.Registry().Addr() || a.Dir() == b.Dir() {
		t.Errorf("shared: registry %s, folder %s", a.Registry().Addr(), a.Dir())
	}
	must(t, a.Close(), a.Close(), b.ControlPlane().Ready(t.Context()))
	if _, err := a.AddNode(t.Context(), node.Spec{}); !errors.Is(err, errClosed) {
		t.Errorf("adding a node to a closed lab: %v", err)
	}
	testNothingLeft(t, a)
}

func TestClosingGivesUpNodesThatAreBeingAdded(t *testing.T) {
	t.Parallel()
	c := ForTest(t, Options{})
	must(t, c.ControlPlane().APIServer().Signal(syscall.SIGSTOP))
	added := make(chan error, 1)
	go func() {
		_, err := c.AddNode(t.Context(), node.Spec{})
		added <- err
	}()
	time.Sleep(100 * time.Millisecond)
	must(t, c.Close())
	if err := <-added; err == nil {
		t.Error("a node was added to a lab without API server")
	}
	testNothingLeft(t, c)
}

func TestNodesAreOrderedByNumber(t *testing.T) {
	t.Parallel()
	names := []string{"node-10", "node-9", "edge", "node-1"}
	slices.SortFunc(names, compareNames)
	if diff := cmp.Diff([]string{"edge", "node-1", "node-9", "node-10"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// outcome is a testing.TB that remembers how a test was ended.
type outcome struct {
	testing.TB
	skipped, failed string
}

func (o *outcome) Helper()                           {}
func (o *outcome) Skip(args ...any)                  { o.skipped = fmt.Sprint(args...) }
func (o *outcome) Fatalf(format string, args ...any) { o.failed = fmt.Sprintf(format, args...) }

func TestLeavingOutIsSaidOrFails(t *testing.T) {
	t.Setenv(omit.Env, "")
	if Probe().Err() == nil {
		t.Setenv("PATH", "") // Then neither runc nor ip is found.
	}
	for value, want := range map[string]bool{"": true, "0": true, "1": false} {
		t.Setenv(omit.Env, value)
		var o outcome
		RequireRuntime(&o, Containerd)
		if skipped := strings.Contains(o.skipped, "cannot run on this machine"); skipped != want || (o.failed != "") == want {
			t.Errorf("%s=%s: skipped with %q, failed with %q", omit.Env, value, o.skipped, o.failed)
		}
		o = outcome{}
		RequireRuntime(&o, Layout)
		if o.skipped != "" || o.failed != "" {
			t.Errorf("layout: skipped with %q, failed with %q", o.skipped, o.failed)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"unknown runtime": {Runtime: "docker"}, "negative nodes": {Nodes: -1}, "negative sites": {Sites: -1},
	} {
		if _, err := Start(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
