package schedulerplugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"edgecache.dev/scheduler-plugin/args"
	"edgecache.dev/scheduler-plugin/inventory"
	"edgecache.dev/scheduler-plugin/scoring"
)

// reasonOffline is what users read of nodes that were refused.
const reasonOffline = "node(s) cannot reach a registry that the pod's images need"

// PreFilter has Filter skipped where no node is to be refused.
func (p *Plugin) PreFilter(_ context.Context, state fwk.CycleState, pod *corev1.Pod, _ []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	if p.args.OfflinePolicy != args.OfflineEnforce || ofDaemonSet(pod) || !p.usable() {
		return nil, fwk.NewStatus(fwk.Skip)
	}
	p.begin(state, pod)
	return nil, nil
}

// PreFilterExtensions implements the plugin: other pods do not matter.
func (p *Plugin) PreFilterExtensions() fwk.PreFilterExtensions { return nil }

// Filter refuses nodes that cannot start the pod because a registry is out of reach. Preemption would not help.
func (p *Plugin) Filter(_ context.Context, state fwk.CycleState, pod *corev1.Pod, info fwk.NodeInfo) *fwk.Status {
	c := p.find(state)
	if c == nil {
		return nil
	}
	facts, told := c.demand.Facts(c.demand.Node(info.Node().Name), true, false)
	if !told || facts.Bar != scoring.WhyOffline {
		return nil
	}
	if !c.refused.Swap(true) {
		p.waiting.add(pod, c.demand)
	}
	return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, reasonOffline)
}

// ofDaemonSet says whether a pod belongs to a DaemonSet: it has one node to go to, and is better there than nowhere.
func ofDaemonSet(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

// wake has pods tried again that were refused and may start now.
func (p *Plugin) wake(news inventory.News) {
	if pods := p.waiting.take(news); len(pods) > 0 {
		p.handle.Activate(klog.Background(), pods)
	}
}
