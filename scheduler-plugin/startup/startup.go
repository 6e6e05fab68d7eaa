package startup

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// most is how many pods are expected at a time.
const most = 10_000

// Watcher expects pods to start.
type Watcher struct {
	started func(estimate, took time.Duration)

	mu       sync.Mutex
	expected map[types.UID]time.Duration // guarded by mu: the estimates
}

// NewWatcher makes one that tells of every pod it expected how long its images took, beside the estimate.
func NewWatcher(started func(estimate, took time.Duration)) *Watcher {
	return &Watcher{started: started, expected: map[types.UID]time.Duration{}}
}

// Expect takes in that a pod was bound. Pods that cannot be measured, and those too many, are left out.
func (w *Watcher) Expect(pod *corev1.Pod, estimate time.Duration) {
	if !measurable(pod) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.expected) < most {
		w.expected[pod.UID] = estimate
	}
}

func measurable(pod *corev1.Pod) bool {
	return len(pod.Spec.InitContainers) == 0 && !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Image != nil })
}

// Handler hears of pods. It goes to an informer.
func (w *Watcher) Handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, object any) {
			if pod, ok := object.(*corev1.Pod); ok {
				w.see(pod)
			}
		},
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if pod, ok := object.(*corev1.Pod); ok {
				w.take(pod.UID)
			}
		},
	}
}

func (w *Watcher) see(pod *corev1.Pod) {
	if pod.Spec.NodeName == "" || !w.expects(pod.UID) {
		return
	}
	took, done := Took(pod)
	if !done {
		return
	}
	if estimate, ok := w.take(pod.UID); ok {
		w.started(estimate, took)
	}
}

func (w *Watcher) expects(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.expected[uid]
	return ok
}

func (w *Watcher) take(uid types.UID) (estimate time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	estimate, ok = w.expected[uid]
	delete(w.expected, uid)
	return estimate, ok
}

// Took is how long the images of a pod took, once all of its containers have started for the first time: from the
// sandbox's being ready, which is when the kubelet begins to see to images.
func Took(pod *corev1.Pod) (took time.Duration, done bool) {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionTrue
	})
	if i < 0 || len(pod.Status.ContainerStatuses) < len(pod.Spec.Containers) {
		return 0, false
	}
	begun := pod.Status.Conditions[i].LastTransitionTime
	for _, c := range pod.Status.ContainerStatuses {
		at := firstStart(&c)
		if at.IsZero() {
			return 0, false
		}
		took = max(took, at.Sub(begun.Time))
	}
	return took, true
}

func firstStart(c *corev1.ContainerStatus) time.Time {
	switch {
	case c.LastTerminationState.Terminated != nil:
		return c.LastTerminationState.Terminated.StartedAt.Time
	case c.State.Running != nil:
		return c.State.Running.StartedAt.Time
	case c.State.Terminated != nil:
		return c.State.Terminated.StartedAt.Time
	default:
		return time.Time{}
	}
}
