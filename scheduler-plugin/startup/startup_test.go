package startup

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

var midnight = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func after(seconds int) metav1.Time {
	return metav1.NewTime(midnight.Add(time.Duration(seconds) * time.Second))
}

// pod has a sandbox since midnight.
func pod(statuses ...corev1.ContainerStatus) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "p"}, Spec: corev1.PodSpec{NodeName: "n", Containers: make([]corev1.Container, 2)}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: after(0)}}
	p.Status.ContainerStatuses = statuses
	return p
}

func running(seconds int) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: after(seconds)}}}
}

func waiting() corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
}

func ended(seconds int) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: after(seconds)}}}
}

func restarted(first, second int) corev1.ContainerStatus {
	c := running(second)
	c.LastTerminationState = ended(first).State
	return c
}

func TestTook(t *testing.T) {
	t.Parallel()
	noSandbox := pod(running(3), running(7))
	noSandbox.Status.Conditions = nil
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		took time.Duration
		done bool
	}{
		"the last container counts":         {pod(running(3), running(7)), 7 * time.Second, true},
		"one waits":                         {pod(running(3), waiting()), 0, false},
		"one is not listed":                 {pod(running(3)), 0, false},
		"one ended":                         {pod(ended(3), running(2)), 3 * time.Second, true},
		"of a restarted one the first time": {pod(restarted(2, 90), running(3)), 3 * time.Second, true},
		"no sandbox":                        {noSandbox, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if took, done := Took(tt.pod); took != tt.took || done != tt.done {
				t.Errorf("got %v, %v, want %v, %v", took, done, tt.took, tt.done)
			}
		})
	}
}

func TestWatcherTellsOnceOfWhatItExpects(t *testing.T) {
	t.Parallel()
	var told []string
	w := NewWatcher(func(estimate, took time.Duration) { told = append(told, fmt.Sprint(estimate, took)) })
	h := w.Handler()
	h.OnUpdate(nil, pod(running(1), running(2))) // nobody expects it
	w.Expect(pod(), 5*time.Second)
	h.OnUpdate(nil, pod(running(1), waiting()))
	h.OnUpdate(nil, pod(running(1), running(4)))
	h.OnUpdate(nil, pod(running(1), running(4)))
	if len(told) != 1 || told[0] != "5s 4s" {
		t.Errorf("told %v", told)
	}
}

func TestWatcherForgets(t *testing.T) {
	t.Parallel()
	w := NewWatcher(func(_, _ time.Duration) { t.Error("told of a pod that is gone") })
	for _, gone := range []any{pod(), cache.DeletedFinalStateUnknown{Obj: pod()}} {
		w.Expect(pod(), time.Second)
		w.Handler().OnDelete(gone)
		w.Handler().OnUpdate(nil, pod(running(1), running(1)))
	}
}

func TestWatcherLeavesOut(t *testing.T) {
	t.Parallel()
	w := NewWatcher(func(_, _ time.Duration) {})
	initial, volume := pod(), pod()
	initial.Spec.InitContainers = make([]corev1.Container, 1)
	volume.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{}}}}
	for _, p := range []*corev1.Pod{initial, volume} {
		w.Expect(p, time.Second)
	}
	if len(w.expected) != 0 {
		t.Error("expects pods whose time is not that of their images")
	}
	for i := range most + 1 {
		p := pod()
		p.UID = types.UID(strconv.Itoa(i))
		w.Expect(p, time.Second)
	}
	if len(w.expected) != most {
		t.Errorf("expects %d pods, want at most %d", len(w.expected), most)
	}
}
