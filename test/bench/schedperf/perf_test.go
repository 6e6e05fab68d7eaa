package schedperf

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/test/integration/framework"
	perf "k8s.io/kubernetes/test/integration/scheduler_perf"

	_ "edgecache.dev/cmd/edgecache-scheduler/argscheme"
	schedulerplugin "edgecache.dev/scheduler-plugin"
)

func TestMain(m *testing.M) {
	if err := perf.InitTests(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	m.Run()
}

// BenchmarkScheduler runs the variants of testdata/performance.yaml, of which -bench=Scheduler/NAME picks one. The figures
// go to the file that $SCHEDPERF_FIGURES names, as JSON.
func BenchmarkScheduler(b *testing.B) {
	url, stop, err := framework.RunCustomEtcd(klog.Background(), "edgecache-schedperf", []string{"--unsafe-no-fsync"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(stop)
	b.Setenv("KUBE_INTEGRATION_ETCD_URL", url)
	perf.PluginNames = append(perf.PluginNames, schedulerplugin.Name)
	m := &meter{}
	// The plugin is kept, to ask it whether it has read what there is to know.
	plugin := func(ctx context.Context, args runtime.Object, handle fwk.Handle) (made fwk.Plugin, err error) {
		made, err = schedulerplugin.New(ctx, args, handle)
		m.plugin, _ = made.(fwk.PreScorePlugin)
		return made, err
	}
	perf.RunBenchmarkPerfScheduling(b, "testdata/performance.yaml", "edgecache",
		frameworkruntime.Registry{schedulerplugin.Name: plugin},
		perf.WithPrepareFn(install), perf.WithNodeUpdateFn(m.hook))
	if m.figures == nil {
		return // none was picked
	}
	text, err := json.Marshal(m.figures)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("figures: %s", text)
	if path := os.Getenv("SCHEDPERF_FIGURES"); path != "" {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
}
