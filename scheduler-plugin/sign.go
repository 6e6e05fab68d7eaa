package schedulerplugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"edgecache.dev/scheduler-plugin/args"
)

// signKey is the plugin's part of a pod's signature.
const signKey = "edgecache.dev/ImageSet()"

// SignPod has pods that need the same images in the same way share what was worked out for one of them. While nodes of a
// site share an uplink and something is on its way, each placement changes what other nodes offer: then there is no
// signature, and pods are scheduled one by one.
func (p *Plugin) SignPod(_ context.Context, pod *corev1.Pod) ([]fwk.SignFragment, *fwk.Status) {
	if p.args.Uplink == args.UplinkSite && p.inventory.SitesBusy() {
		return nil, fwk.NewStatus(fwk.Unschedulable, "images are on their way over a shared uplink")
	}
	wants := p.images.wants(pod)
	signed := make([]string, 0, len(wants)+1)
	for i := range wants {
		signed = append(signed, wants[i].Name+" "+string(wants[i].Policy))
	}
	if ofDaemonSet(pod) {
		signed = append(signed, "DaemonSet")
	}
	return []fwk.SignFragment{{Key: signKey, Value: signed}}, nil
}
