// Package metrics is what the controller counts, besides what client-go and its work
// queues count by themselves.
//
// It owns the metrics' names and help texts, which docs/operations.md lists. Nothing is
// labelled by node: a fleet has too many.
//
// Concurrency: Metrics may be used from any goroutine.
package metrics

import (
	"strings"

	"k8s.io/component-base/metrics"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

const namespace = "edgecache"

// Metrics of one controller.
type Metrics struct {
	cacheNodes *metrics.GaugeVec
	lookUps    *metrics.CounterVec
	nodeWrites *metrics.CounterVec
}

// New makes metrics that count nothing yet. They count once they are registered.
func New() *Metrics {
	return &Metrics{
		cacheNodes: metrics.NewGaugeVec(&metrics.GaugeOpts{
			Namespace: namespace, Name: "imagecache_nodes", StabilityLevel: metrics.ALPHA,
			Help: "Nodes that an ImageCache selects, by how far they are: ready, updating, failed, unreachable or no_agent.",
		}, []string{"namespace", "name", "state"}),
		lookUps: metrics.NewCounterVec(&metrics.CounterOpts{
			Namespace: namespace, Name: "image_lookups_total", StabilityLevel: metrics.ALPHA,
			Help: "Images looked up in their registries, by verdict: Pullable, NotPullable or Inconclusive.",
		}, []string{"verdict"}),
		nodeWrites: metrics.NewCounterVec(&metrics.CounterOpts{
			Namespace: namespace, Name: "nodeimagecache_writes_total", StabilityLevel: metrics.ALPHA,
			Help: "Writes of NodeImageCaches by the controller, by verb: create, update or delete.",
		}, []string{"verb"}),
	}
}

// Register makes the metrics count, and shows them where register puts them.
func (m *Metrics) Register(register func(...metrics.Registerable)) {
	register(m.cacheNodes, m.lookUps, m.nodeWrites)
}

// CacheNodes takes in the counts of an ImageCache.
func (m *Metrics) CacheNodes(owner wish.Owner, n v1alpha1.NodeCounts) {
	for state, count := range states(n) {
		m.cacheNodes.With(labels(owner, state)).Set(float64(count))
	}
}

// ForgetCache drops an ImageCache that is gone.
func (m *Metrics) ForgetCache(owner wish.Owner) {
	for state := range states(v1alpha1.NodeCounts{}) {
		m.cacheNodes.Delete(labels(owner, state))
	}
}

func states(n v1alpha1.NodeCounts) map[string]int32 {
	return map[string]int32{"ready": n.Ready, "updating": n.Updating, "failed": n.Failed, "unreachable": n.Unreachable, "no_agent": n.NoAgent}
}

func labels(owner wish.Owner, state string) map[string]string {
	namespace, name, _ := strings.Cut(string(owner), "/")
	return map[string]string{"namespace": namespace, "name": name, "state": state}
}

// LookedUp counts a look-up.
func (m *Metrics) LookedUp(verdict v1alpha1.Verdict) {
	m.lookUps.WithLabelValues(string(verdict)).Inc()
}

// WroteNode counts a write of a NodeImageCache.
func (m *Metrics) WroteNode(verb string) { m.nodeWrites.WithLabelValues(verb).Inc() }
