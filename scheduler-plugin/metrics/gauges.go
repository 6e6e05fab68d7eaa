package metrics

import (
	"sync/atomic"

	"k8s.io/component-base/metrics"

	"edgecache.dev/scheduler-plugin/inventory"
)

var (
	nodes = metrics.NewDesc("edgecache_scheduler_nodes",
		"Nodes of which an agent told: heard while it is heard of, silent when it is not.", []string{"agent"}, nil, metrics.ALPHA, "")
	contents = metrics.NewDesc("edgecache_scheduler_contents",
		"Images whose layers are known.", nil, nil, metrics.ALPHA, "")
	promises = metrics.NewDesc("edgecache_scheduler_pulls_ahead",
		"Pods that were placed and whose images are still on their way.", nil, nil, metrics.ALPHA, "")
	breaker = metrics.NewDesc("edgecache_scheduler_breaker_open",
		"1 while nothing is concluded from what agents told: most are silent, or it was not read yet.", nil, nil, metrics.ALPHA, "")
)

// gauges reads an inventory when it is asked for metrics.
type gauges struct {
	metrics.BaseStableCollector
	of atomic.Pointer[inventory.Inventory]
}

var known = &gauges{}

// Watch shows the figures of an inventory, in place of any before.
func Watch(of *inventory.Inventory) { known.of.Store(of) }

// DescribeWithStability implements metrics.StableCollector.
func (g *gauges) DescribeWithStability(descriptions chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{nodes, contents, promises, breaker} {
		descriptions <- d
	}
}

// CollectWithStability implements metrics.StableCollector.
func (g *gauges) CollectWithStability(values chan<- metrics.Metric) {
	of := g.of.Load()
	if of == nil {
		return
	}
	figures := of.Gauges()
	open := 0
	if figures.Open {
		open = 1
	}
	gauge := func(d *metrics.Desc, value int, labels ...string) {
		values <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, float64(value), labels...)
	}
	gauge(nodes, figures.Heard, "heard")
	gauge(nodes, figures.Silent, "silent")
	gauge(contents, figures.Contents)
	gauge(promises, figures.Promises)
	gauge(breaker, open)
}
