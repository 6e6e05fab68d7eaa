package schedulerplugin

import (
	"fmt"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"

	"edgecache.dev/scheduler-plugin/args"
	"edgecache.dev/scheduler-plugin/explain"
	"edgecache.dev/scheduler-plugin/metrics"
	"edgecache.dev/scheduler-plugin/startup"

	fwk "k8s.io/kube-scheduler/framework"
)

// teller tells of pods that were bound: it counts them, traces them in the log, gives them Events, and sees whether
// the estimates come true.
type teller struct {
	profile  string
	which    args.Events
	equal    time.Duration
	recorder events.EventRecorder
	limit    *rate.Limiter
	pods     *startup.Watcher
}

func newTeller(settings *args.ImageCacheLocalityArgs, handle fwk.Handle) (*teller, error) {
	metrics.Register()
	t := &teller{
		profile: handle.ProfileName(), which: settings.Events, equal: settings.EqualWithin.Duration,
		recorder: handle.EventRecorder(), limit: perMinute(settings.EventsPerMinute),
	}
	t.pods = startup.NewWatcher(func(estimate, took time.Duration) { metrics.Started(t.profile, estimate, took) })
	if _, err := handle.SharedInformerFactory().Core().V1().Pods().Informer().AddEventHandler(t.pods.Handler()); err != nil {
		return nil, fmt.Errorf("watching pods start: %w", err)
	}
	return t, nil
}

// perMinute lets a minute's Events through at once, as after a rollout, and then one by one.
func perMinute(n int32) *rate.Limiter { return rate.NewLimiter(rate.Limit(float64(n)/60), int(n)) }

func (t *teller) noOpinion() { metrics.NoOpinion(t.profile) }

func (t *teller) bound(logger klog.Logger, pod *corev1.Pod, d *explain.Decision) {
	metrics.Bound(t.profile, d)
	t.trace(logger, pod, d)
	if !d.Chosen.Why.Bars() {
		t.pods.Expect(pod, d.Chosen.Ready())
	}
	reason := d.Tell(t.equal)
	if !t.wanted(reason) {
		return
	}
	sent := t.limit.Allow()
	metrics.Event(reason, sent)
	if sent {
		t.recorder.Eventf(pod, nil, severity(reason), string(reason), "Scheduling", "%s", d.String())
	}
}

func (t *teller) wanted(reason explain.Reason) bool {
	switch reason {
	case explain.ReasonNone:
		return false
	case explain.ReasonImagesPresent:
		return t.which == args.EventsAll
	default:
		return t.which != args.EventsOff
	}
}

func severity(reason explain.Reason) string {
	if reason == explain.ReasonImagesOutOfReach {
		return corev1.EventTypeWarning
	}
	return corev1.EventTypeNormal
}

func (t *teller) trace(logger klog.Logger, pod *corev1.Pod, d *explain.Decision) {
	e := &d.Chosen
	logger.V(4).Info("Pod placed by its images", "pod", klog.KObj(pod), "node", d.Node, "outcome", e.Why, "ready", e.Ready(),
		"bytes", e.Total, "missing", e.Missing, "joining", e.Joining, "ahead", e.Ahead,
		"bytesPerSecond", e.BytesPerSecond, "unpackBytesPerSecond", e.UnpackPerSecond,
		"candidates", d.Candidates, "soonestMillis", d.ShortestMillis, "meanMillis", d.MeanMillis)
}
