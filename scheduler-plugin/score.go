package schedulerplugin

import (
	"context"
	"math"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// PreScore skips pods of whose images nothing is known.
func (p *Plugin) PreScore(_ context.Context, state fwk.CycleState, pod *corev1.Pod, _ []fwk.NodeInfo) *fwk.Status {
	if !p.usable() || !p.begin(state, pod).demand.Known {
		return fwk.NewStatus(fwk.Skip)
	}
	return nil
}

// Score gives the milliseconds until the pod's images are ready on the node, more where the node is nearly full.
func (p *Plugin) Score(_ context.Context, state fwk.CycleState, _ *corev1.Pod, info fwk.NodeInfo) (int64, *fwk.Status) {
	c := p.find(state)
	if c == nil {
		return p.rules.Max, nil
	}
	e := p.estimate(c, info)
	return p.rules.Faded(e.Millis, c.load(info)), nil
}

// ScoreExtensions implements the plugin.
func (p *Plugin) ScoreExtensions() fwk.ScoreExtensions { return p }

// NormalizeScore turns milliseconds into scores from 0 to 100.
func (p *Plugin) NormalizeScore(_ context.Context, state fwk.CycleState, _ *corev1.Pod, scores fwk.NodeScoreList) *fwk.Status {
	f := fieldOf(scores)
	if c := p.find(state); c != nil {
		c.field.Store(&f)
	}
	scorer := p.rules.Scorer(f.shortest)
	for i := range scores {
		scores[i].Score = scorer.Score(scores[i].Score)
	}
	return nil
}

func fieldOf(scores fwk.NodeScoreList) field {
	f := field{candidates: len(scores), shortest: math.MaxInt64}
	var sum int64
	for i := range scores {
		f.shortest = min(f.shortest, scores[i].Score)
		sum += scores[i].Score
	}
	if len(scores) > 0 {
		f.mean = sum / int64(len(scores))
	}
	return f
}
