package metrics

import (
	"strings"
	"testing"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"edgecache.dev/api/v1alpha1"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := metrics.NewKubeRegistry()
	m := New()
	m.Register(registry.MustRegister)
	m.CacheNodes("retail/gone", v1alpha1.NodeCounts{Ready: 7})
	m.CacheNodes("retail/pos", v1alpha1.NodeCounts{Selected: 6, Ready: 3, Failed: 1, Unreachable: 2})
	m.ForgetCache("retail/gone")
	m.LookedUp(v1alpha1.VerdictPullable)
	m.WroteNode("update")
	m.WroteNode("update")
	const want = `
# HELP edgecache_image_lookups_total [ALPHA] Images looked up in their registries, by verdict: Pullable, NotPullable or Inconclusive.
# TYPE edgecache_image_lookups_total counter
edgecache_image_lookups_total{verdict="Pullable"} 1
# HELP edgecache_imagecache_nodes [ALPHA] Nodes that an ImageCache selects, by how far they are: ready, updating, failed, unreachable or no_agent.
# TYPE edgecache_imagecache_nodes gauge
edgecache_imagecache_nodes{name="pos",namespace="retail",state="failed"} 1
edgecache_imagecache_nodes{name="pos",namespace="retail",state="no_agent"} 0
edgecache_imagecache_nodes{name="pos",namespace="retail",state="ready"} 3
edgecache_imagecache_nodes{name="pos",namespace="retail",state="unreachable"} 2
edgecache_imagecache_nodes{name="pos",namespace="retail",state="updating"} 0
# HELP edgecache_nodeimagecache_writes_total [ALPHA] Writes of NodeImageCaches by the controller, by verb: create, update or delete.
# TYPE edgecache_nodeimagecache_writes_total counter
edgecache_nodeimagecache_writes_total{verb="update"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
