// Package metrics shows how an agent stands to Prometheus.
//
// It owns the metrics' names and help texts, which docs/operations.md lists. It keeps
// nothing: each scrape reads the agent's status, so that metrics cost nothing in between.
// No label names an image: a node may have a thousand.
package metrics

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/metrics"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/local"
)

const prefix = "edgecache_agent_"

func desc(name, help string, labels ...string) *metrics.Desc {
	return metrics.NewDesc(prefix+name, help, labels, nil, metrics.ALPHA, "")
}

// Collector gives an agent's metrics.
type Collector struct {
	metrics.BaseStableCollector
	tell func() local.Status
	of   described
}

// described are the metrics that there are.
type described struct {
	images, attempts, fetched, rate, passes, memory, runtime *metrics.Desc
	contact, silence, registry, capacity, available          *metrics.Desc
	commits, written, size, condition                        *metrics.Desc
}

// New makes a collector of what tell gives.
func New(tell func() local.Status) *Collector {
	return &Collector{tell: tell, of: described{
		images:    desc("images", "Images that are wished or being removed, by phase: Pending, Pulling, Cached, Failed or Removing.", "phase"),
		attempts:  desc("image_attempts_total", "Attempts to bring an image in that ended, by reason; Succeeded for those that did.", "reason"),
		fetched:   desc("fetched_bytes_total", "Bytes of images that came in."),
		rate:      desc("fetch_bytes_per_second", "Bytes of images that come in, over the last half minute."),
		passes:    desc("passes_total", "Times that the wish was compared with what the runtime holds."),
		memory:    desc("from_memory", "1 while images are told as remembered: the runtime has not been looked at with the present wish."),
		runtime:   desc("runtime_up", "1 if the container runtime answered when it was asked last."),
		contact:   desc("apiserver_up", "1 if the API server answered the last request."),
		silence:   desc("apiserver_silence_seconds", "Time since the API server answered anything, or since the agent was started."),
		registry:  desc("registry_up", "1 if a registry is reachable; absent where that is not known.", "host"),
		capacity:  desc("disk_capacity_bytes", "Size of the file system that holds the images."),
		available: desc("disk_available_bytes", "Free space there."),
		commits:   desc("store_commits_total", "Writes of the agent's memory that reached the disk."),
		written:   desc("store_written_bytes_total", "Bytes that those handed to it."),
		size:      desc("store_size_bytes", "Size of the file."),
		condition: desc("condition", "1 for each condition of the NodeImageCache that is True, 0 for others.", "type"),
	}}
}

// DescribeWithStability gives the metrics that there are.
func (c *Collector) DescribeWithStability(to chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{
		c.of.images, c.of.attempts, c.of.fetched, c.of.rate, c.of.passes, c.of.memory, c.of.runtime,
		c.of.contact, c.of.silence, c.of.registry, c.of.capacity, c.of.available, c.of.commits, c.of.written, c.of.size, c.of.condition,
	} {
		to <- d
	}
}

// CollectWithStability reads the status.
func (c *Collector) CollectWithStability(to chan<- metrics.Metric) {
	s := c.tell()
	gauge := func(d *metrics.Desc, v float64, labels ...string) {
		to <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, v, labels...)
	}
	counter := func(d *metrics.Desc, v int64, labels ...string) {
		to <- metrics.NewLazyConstMetric(d, metrics.CounterValue, float64(v), labels...)
	}
	for phase, n := range phases(s.Summary) {
		gauge(c.of.images, float64(n), string(phase))
	}
	for reason, n := range s.Counters.Attempts {
		counter(c.of.attempts, n, reason)
	}
	counter(c.of.fetched, s.Counters.BytesFetched)
	counter(c.of.passes, s.Counters.Passes)
	gauge(c.of.rate, float64(s.Summary.BytesPerSecond))
	gauge(c.of.memory, number(s.Source == local.FromMemory))
	gauge(c.of.runtime, number(s.Runtime.Name != "" && s.Runtime.Error == ""))
	c.links(&s, gauge)
	if s.Disk != nil {
		gauge(c.of.capacity, float64(s.Disk.Capacity))
		gauge(c.of.available, float64(s.Disk.Available))
	}
	if s.Store != nil {
		counter(c.of.commits, int64(s.Store.Commits))
		counter(c.of.written, int64(s.Store.BytesWritten))
		gauge(c.of.size, float64(s.Store.SizeBytes))
	}
	for _, cond := range s.Conditions {
		gauge(c.of.condition, number(cond.Status == metav1.ConditionTrue), cond.Type)
	}
}

func (c *Collector) links(s *local.Status, gauge func(*metrics.Desc, float64, ...string)) {
	if api := s.APIServer; api != nil {
		silence := s.UptimeSeconds
		if api.HeardSecondsAgo != nil {
			silence = *api.HeardSecondsAgo
		}
		gauge(c.of.contact, number(api.Reachable == metav1.ConditionTrue))
		gauge(c.of.silence, silence)
	}
	for _, r := range s.Links {
		if r.Reachable != metav1.ConditionUnknown {
			gauge(c.of.registry, number(r.Reachable == metav1.ConditionTrue), r.Host)
		}
	}
}

func phases(s local.Summary) map[v1alpha1.ImagePhase]int {
	return map[v1alpha1.ImagePhase]int{
		v1alpha1.PhasePending: s.Pending, v1alpha1.PhasePulling: s.Pulling, v1alpha1.PhaseCached: s.Cached,
		v1alpha1.PhaseFailed: s.Failed, v1alpha1.PhaseRemoving: s.Removing,
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
