package metrics

import (
	"strings"
	"testing"
	"time"

	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"

	"edgecache.dev/scheduler-plugin/explain"
	"edgecache.dev/scheduler-plugin/scoring"
)

//nolint:paralleltest // it is the only one that counts, in the registry of the process
func TestCounts(t *testing.T) {
	Register()
	Register() // by the next profile
	partly := explain.Decision{Chosen: scoring.Estimate{Facts: scoring.Facts{Total: 10, Missing: 3, Joining: 1}, Millis: 4000, Why: scoring.WhyPartly}, Candidates: 2, MeanMillis: 6000}
	worse := partly
	worse.MeanMillis = 1000
	barred := explain.Decision{Chosen: scoring.Estimate{Facts: scoring.Facts{Total: 5, Missing: 5}, Millis: 600_000, Why: scoring.WhyOffline}}
	for _, d := range []explain.Decision{partly, worse, barred} {
		Bound("p", &d)
	}
	NoOpinion("p")
	Started("p", 4*time.Second, 6*time.Second)
	Started("p", time.Second, 3*time.Second) // too short to say anything of the estimate
	Event(explain.ReasonImagesMissing, true)
	Event(explain.ReasonImagesMissing, false)
	want := `
# HELP edgecache_scheduler_bytes_avoided_total [ALPHA] Compressed bytes of bound pods' images that were on the chosen node already.
# TYPE edgecache_scheduler_bytes_avoided_total counter
edgecache_scheduler_bytes_avoided_total{profile="p"} 12
# HELP edgecache_scheduler_bytes_missing_total [ALPHA] Compressed bytes of bound pods' images that the chosen node has to bring.
# TYPE edgecache_scheduler_bytes_missing_total counter
edgecache_scheduler_bytes_missing_total{profile="p"} 11
# HELP edgecache_scheduler_decisions_total [ALPHA] Pods that were bound, by what of their images was on the chosen node: Cached, Joins, Partly, Empty, Unknown, a bar such as Offline, or NoOpinion where nothing was known.
# TYPE edgecache_scheduler_decisions_total counter
edgecache_scheduler_decisions_total{outcome="NoOpinion",profile="p"} 1
edgecache_scheduler_decisions_total{outcome="Offline",profile="p"} 1
edgecache_scheduler_decisions_total{outcome="Partly",profile="p"} 2
# HELP edgecache_scheduler_events_total [ALPHA] Events on pods about their images, by reason, and whether they were sent or held back by eventsPerMinute.
# TYPE edgecache_scheduler_events_total counter
edgecache_scheduler_events_total{reason="ImagesMissing",result="limited"} 1
edgecache_scheduler_events_total{reason="ImagesMissing",result="sent"} 1
# HELP edgecache_scheduler_saved_seconds_total [ALPHA] By how much bound pods' images are ready sooner than on the candidates on average, by estimate. Losses are left out.
# TYPE edgecache_scheduler_saved_seconds_total counter
edgecache_scheduler_saved_seconds_total{profile="p"} 2
`
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(want), "edgecache_scheduler_bytes_avoided_total", "edgecache_scheduler_bytes_missing_total",
		"edgecache_scheduler_decisions_total", "edgecache_scheduler_events_total", "edgecache_scheduler_saved_seconds_total"); err != nil {
		t.Error(err)
	}
	for name, counts := range map[string]uint64{"edgecache_scheduler_ready_estimate_seconds": 2, "edgecache_scheduler_ready_actual_seconds": 2, "edgecache_scheduler_ready_actual_ratio": 1} {
		h, err := testutil.GetHistogramVecFromGatherer(legacyregistry.DefaultGatherer, name, map[string]string{"profile": "p"})
		if err != nil {
			t.Fatal(err)
		}
		if got := h.GetAggregatedSampleCount(); got != counts {
			t.Errorf("%s has %d samples, want %d", name, got, counts)
		}
	}
}
