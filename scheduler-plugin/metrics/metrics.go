// Package metrics is what the plugin counts, beside kube-scheduler's own metrics and in the same place.
//
// It owns the series edgecache_scheduler_*. They are of the whole process: profiles that share it are told apart by the
// label profile where they can differ. It never reads anything back, and a series that was not registered yet takes
// values all the same.
package metrics

import (
	"sync"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"edgecache.dev/scheduler-plugin/explain"
)

const (
	namespace = "edgecache"
	subsystem = "scheduler"
)

// seconds are the bounds of ready times: from what counts as equal to the ready time that scores 0.
var seconds = []float64{0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600}

var (
	decisions = metrics.NewCounterVec(&metrics.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "decisions_total", StabilityLevel: metrics.ALPHA,
		Help: "Pods that were bound, by what of their images was on the chosen node: Cached, Joins, Partly, Empty, Unknown, a bar such as Offline, or NoOpinion where nothing was known."},
		[]string{"profile", "outcome"})
	bytesAvoided = metrics.NewCounterVec(&metrics.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "bytes_avoided_total", StabilityLevel: metrics.ALPHA,
		Help: "Compressed bytes of bound pods' images that were on the chosen node already."}, []string{"profile"})
	bytesMissing = metrics.NewCounterVec(&metrics.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "bytes_missing_total", StabilityLevel: metrics.ALPHA,
		Help: "Compressed bytes of bound pods' images that the chosen node has to bring."}, []string{"profile"})
	saved = metrics.NewCounterVec(&metrics.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "saved_seconds_total", StabilityLevel: metrics.ALPHA,
		Help: "By how much bound pods' images are ready sooner than on the candidates on average, by estimate. Losses are left out."}, []string{"profile"})
	estimated = metrics.NewHistogramVec(&metrics.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: "ready_estimate_seconds", StabilityLevel: metrics.ALPHA,
		Buckets: seconds, Help: "Estimated time until bound pods' images are ready on the chosen node."}, []string{"profile"})
	actual = metrics.NewHistogramVec(&metrics.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: "ready_actual_seconds", StabilityLevel: metrics.ALPHA,
		Buckets: seconds, Help: "Time from a pod's sandbox to the start of its last container, of pods without init containers and image volumes."}, []string{"profile"})
	ratio = metrics.NewHistogramVec(&metrics.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: "ready_actual_ratio", StabilityLevel: metrics.ALPHA,
		Buckets: []float64{0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 4, 10},
		Help:    "Actual by estimated ready time, of pods whose estimate is at least 2 seconds."}, []string{"profile"})
	events = metrics.NewCounterVec(&metrics.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "events_total", StabilityLevel: metrics.ALPHA,
		Help: "Events on pods about their images, by reason, and whether they were sent or held back by eventsPerMinute."}, []string{"reason", "result"})
)

// Register registers all metrics. It may be called by every profile.
var Register = sync.OnceFunc(func() {
	legacyregistry.MustRegister(decisions, bytesAvoided, bytesMissing, saved, estimated, actual, ratio, events)
	legacyregistry.CustomMustRegister(known)
})

// NoOpinion counts a pod that was bound and of whose images nothing was known.
func NoOpinion(profile string) { decisions.WithLabelValues(profile, "NoOpinion").Inc() }

// Bound counts a pod that was bound.
func Bound(profile string, d *explain.Decision) {
	decisions.WithLabelValues(profile, d.Chosen.Why.String()).Inc()
	bytesAvoided.WithLabelValues(profile).Add(float64(d.Chosen.Shared()))
	bytesMissing.WithLabelValues(profile).Add(float64(d.Chosen.Missing))
	saved.WithLabelValues(profile).Add(max(0, d.Saved()).Seconds())
	if !d.Chosen.Why.Bars() {
		estimated.WithLabelValues(profile).Observe(d.Chosen.Ready().Seconds())
	}
}

// leastEstimate is below what a ratio says anything: pods' times are given in whole seconds.
const leastEstimate = 2 * time.Second

// Started counts a pod whose containers have started.
func Started(profile string, estimate, took time.Duration) {
	actual.WithLabelValues(profile).Observe(took.Seconds())
	if estimate >= leastEstimate {
		ratio.WithLabelValues(profile).Observe(took.Seconds() / estimate.Seconds())
	}
}

// Event counts an Event.
func Event(reason explain.Reason, sent bool) {
	result := "sent"
	if !sent {
		result = "limited"
	}
	events.WithLabelValues(string(reason), result).Inc()
}
