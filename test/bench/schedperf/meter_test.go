package schedperf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/pprof/profile"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	perf "k8s.io/kubernetes/test/integration/scheduler_perf"
	"k8s.io/kubernetes/test/utils/client-go/ktesting"
)

// figures are what one run took, between the moment before the measured pods are created and that in which all are bound.
type figures struct {
	Pods int
	// ProcessSeconds is the CPU time of everything in the process: API server, scheduler, and the test itself.
	ProcessSeconds float64
	// SchedulerSeconds is the part of it in which the scheduler, or the plugin, is on the stack, out of a CPU profile.
	SchedulerSeconds float64
	// PluginSeconds is the part in which the plugin is.
	PluginSeconds float64
	WallSeconds   float64
}

// meter hangs on to the steps of a workload that make nodes: the first one makes them, the two around the measured pods
// make none.
type meter struct {
	plugin  fwk.PreScorePlugin // nil in the variant without it
	calls   int
	pods    int
	cpu     time.Duration
	begin   time.Time
	profile bytes.Buffer
	figures *figures
}

func (m *meter) hook(tCtx ktesting.TContext, _ *scheduler.Scheduler, _ *perf.Workload, nodes *corev1.NodeList) error {
	m.calls++
	switch m.calls {
	case 1:
		return seed(tCtx, nodes)
	case 2:
		return m.start(tCtx)
	case 3:
		return m.stop(tCtx)
	}
	return fmt.Errorf("the workload makes nodes %d times, want 3: more than one variant was picked", m.calls)
}

// warm waits until the plugin knows of an image that it is asked for: it has read all objects then.
func (m *meter) warm(tCtx ktesting.TContext) error {
	if m.plugin == nil {
		return nil
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: imageName(imageCount - 1)}}}}
	return wait.PollUntilContextTimeout(tCtx, 100*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		return m.plugin.PreScore(ctx, framework.NewCycleState(), pod, nil).IsSuccess(), nil
	})
}

func (m *meter) start(tCtx ktesting.TContext) (err error) {
	if err := m.warm(tCtx); err != nil {
		return fmt.Errorf("waiting for the plugin to know the images: %w", err)
	}
	if m.pods, err = countPods(tCtx); err != nil {
		return err
	}
	if m.cpu, err = cpuTime(); err != nil {
		return err
	}
	m.begin = time.Now()
	return pprof.StartCPUProfile(&m.profile)
}

func (m *meter) stop(tCtx ktesting.TContext) error {
	pprof.StopCPUProfile()
	cpu, err := cpuTime()
	if err != nil {
		return err
	}
	wall := time.Since(m.begin)
	pods, err := countPods(tCtx)
	if err != nil {
		return err
	}
	parsed, err := profile.Parse(&m.profile)
	if err != nil {
		return fmt.Errorf("reading the CPU profile: %w", err)
	}
	m.figures = &figures{
		Pods: pods - m.pods, ProcessSeconds: (cpu - m.cpu).Seconds(), WallSeconds: wall.Seconds(),
		SchedulerSeconds: secondsIn(parsed, "k8s.io/kubernetes/pkg/scheduler", "edgecache.dev/"),
		PluginSeconds:    secondsIn(parsed, "edgecache.dev/scheduler-plugin"),
	}
	if m.figures.Pods == 0 {
		return errors.New("no pods were scheduled")
	}
	return nil
}

// countPods asks for the first pod and how many follow.
func countPods(tCtx ktesting.TContext) (int, error) {
	list, err := tCtx.Client().CoreV1().Pods("").List(tCtx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("counting pods: %w", err)
	}
	n := len(list.Items)
	if list.RemainingItemCount != nil {
		n += int(*list.RemainingItemCount)
	}
	return n, nil
}

// cpuTime is what this process has used, in user and in system.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("reading CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// secondsIn is the CPU time of the samples in which a function of one of the packages is on the stack.
func secondsIn(p *profile.Profile, packages ...string) float64 {
	nanos := int64(0)
	for _, s := range p.Sample {
		if slices.ContainsFunc(s.Location, func(l *profile.Location) bool { return within(l, packages) }) {
			nanos += s.Value[len(s.Value)-1]
		}
	}
	return time.Duration(nanos).Seconds()
}

func within(l *profile.Location, packages []string) bool {
	return slices.ContainsFunc(l.Line, func(line profile.Line) bool {
		return slices.ContainsFunc(packages, func(prefix string) bool { return strings.HasPrefix(line.Function.Name, prefix) })
	})
}
