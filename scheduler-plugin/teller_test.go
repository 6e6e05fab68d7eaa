package schedulerplugin

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"

	"edgecache.dev/scheduler-plugin/args"
	"edgecache.dev/scheduler-plugin/explain"
	"edgecache.dev/scheduler-plugin/scoring"
	"edgecache.dev/scheduler-plugin/startup"
)

var (
	pullSaved = explain.Decision{Node: "n", Chosen: scoring.Estimate{Facts: scoring.Facts{Total: 5_000_000}, Why: scoring.WhyCached}, Candidates: 3, MeanMillis: 60_000}
	pullAhead = explain.Decision{Node: "n", Chosen: scoring.Estimate{
		Facts: scoring.Facts{Total: 5_000_000, Missing: 5_000_000}, Millis: 20_000, Why: scoring.WhyEmpty}, Candidates: 3, MeanMillis: 20_000}
	barred = explain.Decision{Node: "n", Chosen: scoring.Estimate{Facts: scoring.Facts{Total: 5, Missing: 5}, Millis: 600_000, Why: scoring.WhyOffline}}
	warm   = explain.Decision{Node: "n", Chosen: scoring.Estimate{Facts: scoring.Facts{Total: 5_000_000}}, Candidates: 3}
)

// told gives the Events of decisions on one pod each.
func told(which args.Events, perMin int32, decisions ...explain.Decision) (sent []string) {
	recorder := events.NewFakeRecorder(len(decisions))
	t := &teller{profile: "test", which: which, equal: 2 * time.Second, recorder: recorder, limit: perMinute(perMin),
		pods: startup.NewWatcher(func(_, _ time.Duration) {})}
	for i := range decisions {
		t.bound(klog.Background(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "p"}}, &decisions[i])
	}
	close(recorder.Events)
	for e := range recorder.Events {
		sent = append(sent, e)
	}
	return sent
}

func TestEventsTellWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	const (
		present = "Normal ImagesPresent Images on n: all 5.0 MB are there; the 3 candidates need 1m0s on average."
		missing = "Normal ImagesMissing Images on n: none of 5.0 MB is there, they take about 20s; the 3 candidates need 20s on average."
		reach   = "Warning ImagesOutOfReach Images on n: 5 B of 5 B are missing, and a registry is out of reach."
	)
	for which, want := range map[args.Events][]string{
		args.EventsAll:   {present, missing, reach},
		args.EventsCosts: {missing, reach},
		args.EventsOff:   nil,
	} {
		if got := told(which, 60, pullSaved, pullAhead, warm, barred); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%q, want\n%q", which, got, want)
		}
	}
}

func TestEventsAreLimited(t *testing.T) {
	t.Parallel()
	if got := told(args.EventsAll, 2, pullSaved, pullSaved, pullSaved, pullSaved); len(got) != 2 {
		t.Errorf("%d of four Events at once, want the two of a minute", len(got))
	}
}
