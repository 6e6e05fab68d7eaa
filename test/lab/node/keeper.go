package node

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
)

const leaseNamespace = corev1.NamespaceNodeLease

// keeper keeps the Node object and Lease of a node that has no kubelet.
type keeper struct {
	spec    Spec
	nodes   coreclient.NodeInterface
	leases  coordinationclient.LeaseInterface
	version discovery.ServerVersionInterface
	alone   bool // no controller manager runs

	// turn holds its one token while the node's objects are looked at and written: two hands at once would overwrite each
	// other, and what a node said when it was silent would come after what it says now. A channel, as a wait for it may be
	// given up.
	turn chan struct{}

	mu       sync.Mutex // guards what follows
	speaking bool
	wake     chan struct{} // closed at the next change of speaking
}

func newKeeper(s Spec, client kubernetes.Interface, alone bool) *keeper {
	return &keeper{spec: s, nodes: client.CoreV1().Nodes(), leases: client.CoordinationV1().Leases(leaseNamespace),
		version: client.Discovery(), alone: alone, turn: make(chan struct{}, 1)}
}

// takeTurn waits for the turn; give gives it back.
func (k *keeper) takeTurn(ctx context.Context) (give func(), err error) {
	select {
	case k.turn <- struct{}{}:
		return func() { <-k.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (k *keeper) setSpeaking(speaking bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.speaking = speaking
	if k.wake != nil {
		close(k.wake)
		k.wake = nil
	}
}

func (k *keeper) isSpeaking() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.speaking
}

// changed returns a channel that is closed when speaking changes next.
func (k *keeper) changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wake == nil {
		k.wake = make(chan struct{})
	}
	return k.wake
}

// register makes the Node object, as a kubelet does when it starts: with its status, in one call.
func (k *keeper) register(ctx context.Context) error {
	version, err := k.version.ServerVersion()
	if err != nil {
		return fmt.Errorf("registering node %s: %w", k.spec.Name, err)
	}
	give, err := k.takeTurn(ctx)
	if err != nil {
		return fmt.Errorf("registering node %s: %w", k.spec.Name, err)
	}
	defer give()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: k.spec.Name, Labels: k.labels()}, Status: k.status(version.GitVersion)}
	_, err = k.nodes.Create(ctx, node, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("registering node %s: %w", k.spec.Name, err)
	}
	return nil
}

func (k *keeper) labels() map[string]string {
	labels := k.spec.AllLabels()
	labels[corev1.LabelOSStable], labels[corev1.LabelArchStable] = "linux", runtime.GOARCH
	return labels
}

// status is what a kubelet of this version would report at first.
func (k *keeper) status(version string) corev1.NodeStatus {
	resources := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           resource.MustParse("4Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("50Gi"),
		corev1.ResourcePods:             resource.MustParse("110"),
	}
	return corev1.NodeStatus{
		Capacity: resources, Allocatable: resources,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, {Type: corev1.NodeHostName, Address: k.spec.Name}},
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: k.spec.Name, SystemUUID: k.spec.Name, BootID: k.spec.Name,
			KernelVersion: "unknown", OSImage: "edgecache lab", OperatingSystem: "linux", Architecture: runtime.GOARCH,
			ContainerRuntimeVersion: "layout://1", KubeletVersion: version,
		},
		Conditions: []corev1.NodeCondition{condition(true, time.Now())},
	}
}

// condition is the Ready condition of a node that speaks or is silent.
func condition(speaking bool, now time.Time) corev1.NodeCondition {
	c := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "the lab keeps this node",
		LastHeartbeatTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
	}
	if !speaking {
		// The words of the controller manager, whose part the lab plays here.
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
	}
	return c
}

// beatWithin is beat with a bound.
func (k *keeper) beatWithin(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return k.beat(ctx)
}

// beat brings the Node object and the Lease to what they should be at this moment. A deleted Node object stays deleted:
// a kubelet, too, makes it only when it starts.
func (k *keeper) beat(ctx context.Context) error {
	give, err := k.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer give()
	speaking := k.isSpeaking()
	if !speaking && !k.alone {
		return nil
	}
	node, err := k.nodes.Get(ctx, k.spec.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := k.report(ctx, node, speaking); err != nil {
		return err
	}
	if !speaking {
		return nil
	}
	return k.renew(ctx, node)
}

// report writes the Ready condition if it is not what it should be and, if nobody else does, removes the taint that every
// new node gets.
func (k *keeper) report(ctx context.Context, node *corev1.Node, speaking bool) error {
	want := condition(speaking, time.Now())
	isReady := func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }
	if i := slices.IndexFunc(node.Status.Conditions, isReady); i < 0 || node.Status.Conditions[i].Status != want.Status {
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{want}}})
		if err != nil {
			return err
		}
		if _, err := k.nodes.PatchStatus(ctx, node.Name, patch); err != nil {
			return err
		}
	}
	notReady := func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }
	if k.alone && speaking && slices.ContainsFunc(node.Spec.Taints, notReady) {
		_, err := k.nodes.Patch(ctx, node.Name, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{})
		return err
	}
	return nil
}

// renew renews the node's Lease, which is what the controller manager judges a node's silence by.
func (k *keeper) renew(ctx context.Context, node *corev1.Node) error {
	now := metav1.NowMicro()
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"renewTime": now}})
	if err != nil {
		return err
	}
	_, err = k.leases.Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		_, err = k.leases.Create(ctx, k.newLease(node, now), metav1.CreateOptions{})
	}
	return err
}

func (k *keeper) newLease(node *corev1.Node, now metav1.MicroTime) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name,
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: new(node.Name), LeaseDurationSeconds: new(int32(leaseDuration / time.Second)), RenewTime: &now},
	}
}
