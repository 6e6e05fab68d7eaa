package metrics

import (
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/local"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := local.Status{
		Source: local.FromRuntime, UptimeSeconds: 60, Summary: local.Summary{Wished: 3, Cached: 2, Failed: 1, BytesPerSecond: 7},
		Runtime:   local.Runtime{RuntimeInfo: v1alpha1.RuntimeInfo{Name: "containerd"}},
		Disk:      &v1alpha1.DiskStatus{Capacity: 100, Available: 40},
		Store:     &local.Store{Commits: 3, BytesWritten: 4096, SizeBytes: 65536},
		APIServer: &local.APIServer{Reachable: metav1.ConditionFalse, HeardSecondsAgo: new(30.5)},
		Links: []v1alpha1.RegistryStatus{
			{Host: "a.example", Reachable: metav1.ConditionTrue}, {Host: "b.example", Reachable: metav1.ConditionFalse}, {Host: "c.example", Reachable: metav1.ConditionUnknown},
		},
		Conditions: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse}, {Type: "Degraded", Status: metav1.ConditionTrue}},
		Counters:   local.Counters{BytesFetched: 5, Attempts: map[string]int64{local.Succeeded: 2, "NotFound": 4}, Passes: 9},
	}
	registry := metrics.NewKubeRegistry()
	registry.CustomMustRegister(New(func() local.Status { return s }))
	const want = `
# HELP edgecache_agent_apiserver_silence_seconds [ALPHA] Time since the API server answered anything, or since the agent was started.
# TYPE edgecache_agent_apiserver_silence_seconds gauge
edgecache_agent_apiserver_silence_seconds 30.5
# HELP edgecache_agent_condition [ALPHA] 1 for each condition of the NodeImageCache that is True, 0 for others.
# TYPE edgecache_agent_condition gauge
edgecache_agent_condition{type="Degraded"} 1
edgecache_agent_condition{type="Ready"} 0
# HELP edgecache_agent_fetched_bytes_total [ALPHA] Bytes of images that came in.
# TYPE edgecache_agent_fetched_bytes_total counter
edgecache_agent_fetched_bytes_total 5
# HELP edgecache_agent_image_attempts_total [ALPHA] Attempts to bring an image in that ended, by reason; Succeeded for those that did.
# TYPE edgecache_agent_image_attempts_total counter
edgecache_agent_image_attempts_total{reason="NotFound"} 4
edgecache_agent_image_attempts_total{reason="Succeeded"} 2
# HELP edgecache_agent_images [ALPHA] Images that are wished or being removed, by phase: Pending, Pulling, Cached, Failed or Removing.
# TYPE edgecache_agent_images gauge
edgecache_agent_images{phase="Cached"} 2
edgecache_agent_images{phase="Failed"} 1
edgecache_agent_images{phase="Pending"} 0
edgecache_agent_images{phase="Pulling"} 0
edgecache_agent_images{phase="Removing"} 0
# HELP edgecache_agent_registry_up [ALPHA] 1 if a registry is reachable; absent where that is not known.
# TYPE edgecache_agent_registry_up gauge
edgecache_agent_registry_up{host="a.example"} 1
edgecache_agent_registry_up{host="b.example"} 0
# HELP edgecache_agent_store_commits_total [ALPHA] Writes of the agent's memory that reached the disk.
# TYPE edgecache_agent_store_commits_total counter
edgecache_agent_store_commits_total 3
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), prefix+"apiserver_silence_seconds", prefix+"condition",
		prefix+"fetched_bytes_total", prefix+"image_attempts_total", prefix+"images", prefix+"registry_up", prefix+"store_commits_total"); err != nil {
		t.Error(err)
	}
	isDocumented(t, registry)
}

// isDocumented checks that docs/operations.md lists every metric.
func isDocumented(t *testing.T, from metrics.KubeRegistry) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := from.Gather()
	if err != nil || len(families) < 16 {
		t.Fatalf("%d metrics, error %v", len(families), err)
	}
	for _, f := range families {
		if !strings.Contains(string(text), "`"+f.GetName()+"`") {
			t.Errorf("docs/operations.md does not list %s", f.GetName())
		}
	}
}
