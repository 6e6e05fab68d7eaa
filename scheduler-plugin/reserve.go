package schedulerplugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"edgecache.dev/scheduler-plugin/args"
	"edgecache.dev/scheduler-plugin/scoring"
)

// Reserve remembers what the node will pull for the pod, so that others join in or go elsewhere. It is kept in memory
// only, and doing it again changes nothing: cycles of pod groups do it to see what would be, and take it back.
func (p *Plugin) Reserve(_ context.Context, state fwk.CycleState, pod *corev1.Pod, nodeName string) *fwk.Status {
	p.waiting.remove(pod.UID)
	if !p.usable() {
		return nil
	}
	c := p.begin(state, pod)
	if !c.demand.Known {
		return nil
	}
	if e, told := p.expect(c, nodeName); told {
		c.decide(nodeName, e)
		c.demand.Promise(c.pod.UID, c.demand.Node(nodeName), e.Ready())
	}
	return nil
}

// expect is the estimate for the node that was chosen; told is false where no agent tells of it.
func (p *Plugin) expect(c *cycle, nodeName string) (e scoring.Estimate, told bool) {
	facts, told := c.demand.Facts(c.demand.Node(nodeName), p.args.OfflinePolicy != args.OfflineIgnore, p.args.Uplink == args.UplinkSite)
	return p.rules.Estimate(facts), told
}

// Unreserve forgets what Reserve remembered.
func (p *Plugin) Unreserve(_ context.Context, _ fwk.CycleState, pod *corev1.Pod, _ string) {
	p.inventory.Done(pod.UID)
}
