package schedulerplugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"edgecache.dev/scheduler-plugin/explain"
	"edgecache.dev/scheduler-plugin/scoring"
)

// field is what NormalizeScore saw of all candidates of a pod, in milliseconds.
type field struct {
	candidates     int
	mean, shortest int64
}

// decide keeps what the pod's images need on the node that was chosen, before they are promised to it.
func (c *cycle) decide(node string, chosen scoring.Estimate) {
	d := &explain.Decision{Node: node, Chosen: chosen}
	if f := c.field.Load(); f != nil {
		d.Candidates, d.MeanMillis, d.ShortestMillis = f.candidates, f.mean, f.shortest
	}
	c.decision.Store(d)
}

// PostBind tells why the pod is where it is.
func (p *Plugin) PostBind(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodeName string) {
	if p.teller == nil {
		return
	}
	c := p.find(state)
	if c == nil {
		p.teller.noOpinion()
		return
	}
	d := c.decision.Load()
	if d == nil || d.Node != nodeName {
		p.teller.noOpinion()
		return
	}
	p.teller.bound(klog.FromContext(ctx), pod, d)
}
