package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"edgecache.dev/test/lab/process"
)

func TestLabels(t *testing.T) {
	t.Parallel()
	got := Spec{Name: "n", Site: "lisbon", Labels: map[string]string{"tier": "gold"}}.AllLabels()
	want := map[string]string{"kubernetes.io/hostname": "n", "edgecache.dev/site": "lisbon", "tier": "gold"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if _, ok := (Spec{Name: "n"}).AllLabels()[SiteLabel]; ok {
		t.Error("a node without a site has a label for it")
	}
}

// newLayout returns a layout host on a fake control plane.
func newLayout(t *testing.T, alone bool) (*Layout, kubernetes.Interface) {
	t.Helper()
	client := fake.NewClientset()
	l := NewLayout(Spec{Name: "n"}, client, alone)
	t.Cleanup(func() { must(t, l.Close()) })
	return l, client
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// await waits until the Node object's condition has the status.
func await(t *testing.T, client kubernetes.Interface, status corev1.ConditionStatus) {
	t.Helper()
	var last []corev1.NodeCondition
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if last = conditions(t, client); has(last, status) {
			return
		}
	}
	t.Fatalf("conditions are %+v, want Ready=%s", last, status)
}

func conditions(t *testing.T, client kubernetes.Interface) []corev1.NodeCondition {
	t.Helper()
	n, err := client.CoreV1().Nodes().Get(t.Context(), "n", metav1.GetOptions{})
	must(t, err)
	return n.Status.Conditions
}

// has tells whether conditions say Ready=status.
func has(conditions []corev1.NodeCondition, status corev1.ConditionStatus) bool {
	return slices.ContainsFunc(conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady && c.Status == status })
}

func TestALayoutNodeIsReadyWhileItIsOn(t *testing.T) {
	t.Parallel()
	l, client := newLayout(t, true)
	must(t, l.PowerOn(t.Context()), l.PowerOn(t.Context()))
	await(t, client, corev1.ConditionTrue)
	_, err := client.CoordinationV1().Leases(leaseNamespace).Get(t.Context(), "n", metav1.GetOptions{})
	must(t, err, l.PowerOff())
	await(t, client, corev1.ConditionUnknown)
	must(t, l.PowerOn(t.Context()))
	await(t, client, corev1.ConditionTrue)
}

// heldNodes makes writes of one Ready condition wait.
type heldNodes struct {
	coreclient.NodeInterface
	status  corev1.ConditionStatus
	came    chan struct{} // gets a value when such a write has come
	release chan struct{} // closed when it may go on
}

func (h *heldNodes) PatchStatus(ctx context.Context, name string, patch []byte) (*corev1.Node, error) {
	if strings.Contains(string(patch), `"status":"`+string(h.status)+`"`) {
		select {
		case h.came <- struct{}{}:
		default:
		}
		<-h.release
	}
	return h.NodeInterface.PatchStatus(ctx, name, patch)
}

// hold makes the host's writes of a Ready condition wait, from the start.
func hold(l *Layout, status corev1.ConditionStatus) *heldNodes {
	h := &heldNodes{NodeInterface: l.keeper.nodes, status: status, came: make(chan struct{}, 1), release: make(chan struct{})}
	l.keeper.nodes = h
	return h
}

// TestWhatWasSaidBeforeTheStartDoesNotComeAfterIt: a heartbeat that says that the node is off is under way when it starts.
func TestWhatWasSaidBeforeTheStartDoesNotComeAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, client := newLayout(t, true)
		h := hold(l, corev1.ConditionUnknown)
		must(t, l.PowerOn(t.Context()))
		synctest.Wait()
		must(t, l.PowerOff())
		<-h.came
		on := make(chan error, 1)
		go func() { on <- l.PowerOn(t.Context()) }()
		synctest.Wait()
		close(h.release)
		must(t, <-on)
		synctest.Wait()
		if c := conditions(t, client); !has(c, corev1.ConditionTrue) {
			t.Errorf("the node was started and its conditions are %+v", c)
		}
	})
}

// TestAChangeDuringAHeartbeatIsSaidAtOnce: not ten seconds later.
func TestAChangeDuringAHeartbeatIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, client := newLayout(t, true)
		h := hold(l, corev1.ConditionTrue)
		must(t, l.PowerOn(t.Context()), l.PauseHeartbeat(true))
		synctest.Wait()
		must(t, l.PauseHeartbeat(false))
		<-h.came
		must(t, l.PauseHeartbeat(true))
		begin := time.Now()
		close(h.release)
		synctest.Wait()
		if c := conditions(t, client); !has(c, corev1.ConditionUnknown) || time.Since(begin) > 0 {
			t.Errorf("the node was silenced and its conditions are %+v", c)
		}
	})
}

func TestSilenceIsLeftToTheControllerManagerToJudge(t *testing.T) {
	t.Parallel()
	l, client := newLayout(t, false)
	must(t, l.PowerOn(t.Context()), l.PauseHeartbeat(true), l.keeper.beat(t.Context()))
	await(t, client, corev1.ConditionTrue)
	must(t, l.PowerOff())
	if err := l.PauseHeartbeat(false); !errors.Is(err, errOff) {
		t.Errorf("letting a node speak that is off: %v", err)
	}
}

func TestTheTaintOfNewNodesIsRemovedIfNobodyElseDoes(t *testing.T) {
	t.Parallel()
	for _, alone := range []bool{true, false} {
		l, client := newLayout(t, alone)
		must(t, l.PowerOn(t.Context()))
		n, err := client.CoreV1().Nodes().Get(t.Context(), "n", metav1.GetOptions{})
		must(t, err)
		n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}
		_, err = client.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{})
		must(t, err, l.keeper.beat(t.Context()))
		n, err = client.CoreV1().Nodes().Get(t.Context(), "n", metav1.GetOptions{})
		must(t, err)
		if left := len(n.Spec.Taints) > 0; left == alone {
			t.Errorf("alone %v: taints are %v", alone, n.Spec.Taints)
		}
	}
}

func TestADeletedNodeStaysDeletedUntilItStarts(t *testing.T) {
	t.Parallel()
	l, client := newLayout(t, true)
	must(t, l.PowerOn(t.Context()), client.CoreV1().Nodes().Delete(t.Context(), "n", metav1.DeleteOptions{}), l.keeper.beat(t.Context()))
	if _, err := client.CoreV1().Nodes().Get(t.Context(), "n", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a heartbeat brought the node back: %v", err)
	}
	must(t, l.PowerOff(), l.PowerOn(t.Context()))
	await(t, client, corev1.ConditionTrue)
}

func TestANodeThatIsOffRunsNothing(t *testing.T) {
	t.Parallel()
	l, _ := newLayout(t, true)
	n := New(Spec{Name: "n"}, Config{Dir: t.TempDir(), LogDir: t.TempDir(), Host: l})
	if _, err := n.Run("agent", []string{"/bin/sleep", "600"}); !errors.Is(err, errOff) {
		t.Errorf("got %v", err)
	}
	must(t, n.Start(t.Context()))
	p, err := n.Run("agent", []string{"/bin/sh", "-c", "echo $COLOUR; sleep 600"}, "COLOUR=red")
	must(t, err)
	must(t, p.WaitReady(t.Context(), func(context.Context) error {
		if text, err := process.Tail(p.Log(), 1); err != nil || text != "red" {
			return errors.New("nothing printed")
		}
		return nil
	}))
	must(t, n.Stop())
	if p.Running() || !strings.HasPrefix(p.Name(), "n/agent") {
		t.Errorf("%s runs: %v", p.Name(), p.Running())
	}
}
