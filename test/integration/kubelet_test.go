package integration

import (
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"edgecache.dev/api/v1alpha1"
)

// TestKubeletsIdentity: an agent that goes by its kubelet's certificate, as systemd units and
// static pods do, from a kubeconfig that is not there yet when it starts. It keeps no Lease,
// and its Node shows that it is there.
func TestKubeletsIdentity(t *testing.T) {
	t.Parallel()
	w := newInstalled(t, 1)
	if _, err := w.lab.ControlPlane().ApplyFile(t.Context(), "../../edgeagent/rbac-kubelet.yaml"); err != nil {
		t.Fatal(err)
	}
	w.startController()
	n := w.lab.Nodes()[0]
	pos := w.push("retail/pos:v1", 1<<18, 1)
	w.apply("pos", listing([]string{pos.Name}))
	w.until("pos", "counts a Ready node without an agent", func(ic *v1alpha1.ImageCache) bool { return ic.Status.Nodes.NoAgent == 1 })

	t.Log("the agent starts, and waits for its kubeconfig")
	kubeconfig, write := w.product.KubeletKubeconfig(n)
	agent, err := w.product.AgentAs(n, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent looks for its kubeconfig", func() error {
		if w.logged(agent, "No way to the API server") == 0 || !agent.Running() {
			return fmt.Errorf("it runs: %t, %w", agent.Running(), agent.Err())
		}
		return nil
	})
	if err := write(); err != nil {
		t.Fatal(err)
	}
	w.untilReady("pos", 1)
	w.expectNames(n, pos)
	if got := w.object(n.Name()).Status.Heartbeat; got != v1alpha1.HeartbeatNode {
		t.Errorf("heartbeat %q", got)
	}
	leases := kubernetes.NewForConfigOrDie(w.lab.ControlPlane().Admin()).CoordinationV1().Leases(v1alpha1.SystemNamespace)
	if _, err := leases.Get(t.Context(), n.Name(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Lease of the agent: %v, want none", err)
	}
	if refused := w.logged(agent, "forbidden"); refused > 0 {
		t.Errorf("%d requests were forbidden", refused)
	}

	t.Log("the box is dark, and comes back")
	if err := n.PauseHeartbeat(); err != nil {
		t.Fatal(err)
	}
	w.until("pos", "counts the node as unreachable", func(ic *v1alpha1.ImageCache) bool { return ic.Status.Nodes.Unreachable == 1 })
	if err := n.ResumeHeartbeat(); err != nil {
		t.Fatal(err)
	}
	w.untilReady("pos", 1)

	t.Log("an agent that is dead while its kubelet lives: its node goes on counting, and does not get what is new")
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	menu := w.push("retail/menu:v1", 1<<18, 2)
	w.apply("menu", listing([]string{menu.Name}))
	w.until("menu", "counts the node as updating", func(ic *v1alpha1.ImageCache) bool {
		return ic.Status.Nodes.Updating == 1 && ic.Status.Nodes.NoAgent == 0
	})
	if err := write(); err != nil { // rotated meanwhile
		t.Fatal(err)
	}
	if err := agent.Restart(); err != nil {
		t.Fatal(err)
	}
	w.untilReady("menu", 1)
}
