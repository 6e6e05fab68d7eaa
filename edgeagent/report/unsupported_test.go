package report

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/runtime"
)

// TestSettingsNotHonoured: a setting without effect is said, and is said no more when it
// has one or is not set.
func TestSettingsNotHonoured(t *testing.T) {
	t.Parallel()
	docker := runtime.Info{Name: "docker"}
	crio := runtime.Info{Name: "cri-o", Capabilities: []runtime.Capability{runtime.CanPin}}
	pinned := plan.Steps{Cached: []plan.Image{{}, {Pin: true}}}
	said := Build(State{Node: Node{Runtime: docker}, Steps: pinned, Generation: 3}, nil)
	c := meta.FindStatusCondition(said.Conditions, v1alpha1.NodeConditionSettingsNotHonoured)
	if c == nil || c.Status != "True" || c.Reason != v1alpha1.ReasonRuntimeCannot || c.ObservedGeneration != 3 ||
		!strings.Contains(c.Message, "runtime docker: pin: Always has no effect") || len(c.Message) > maxMessage {
		t.Fatalf("condition = %+v", c)
	}
	for name, s := range map[string]State{
		"the runtime pins":     {Node: Node{Runtime: crio}, Steps: pinned},
		"nothing is pinned":    {Node: Node{Runtime: docker}, Steps: plan.Steps{Cached: []plan.Image{{}}}},
		"the runtime is away":  {Steps: pinned},
		"nothing is wished":    {Node: Node{Runtime: docker}},
		"only what is missing": {Node: Node{Runtime: crio}, Steps: plan.Steps{Missing: []plan.Image{{Pin: true}}}},
	} {
		if c := meta.FindStatusCondition(Build(s, said.Conditions).Conditions, v1alpha1.NodeConditionSettingsNotHonoured); c != nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
