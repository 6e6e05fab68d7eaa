package edgeagent

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/offlinestart"
	"edgecache.dev/edgeagent/plan"
)

// assess judges whether pods start offline from what was seen last; nil where there is no
// kubelet.
func (a *Agent) assess() *metav1.Condition {
	if a.options.Kubelet == nil {
		return nil
	}
	var wished []imageref.Reference
	for _, images := range [][]plan.Image{a.steps.Cached, a.steps.Missing} {
		for i := range images {
			wished = append(wished, images[i].Ref)
		}
	}
	return new(offlinestart.Assess(offlinestart.Input{
		Kubelet: a.options.Kubelet(), Runtime: a.info, Inventory: a.inventory, Wished: wished,
	}))
}
