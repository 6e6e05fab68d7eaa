package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/test/lab/node"
)

// perSite is how many nodes share a site.
const perSite = 20

// register makes the Nodes. No controller manager runs that would miss their heartbeats.
func (w *World) register(ctx context.Context) error {
	w.say("making %d Nodes", w.Nodes)
	sites := map[string]string{}
	for i, name := range w.nodes {
		sites[name] = fmt.Sprintf("site-%d", i/perSite+1)
	}
	return each(w.nodes, func(name string) error {
		n := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				corev1.LabelHostname: name, node.SiteLabel: sites[name],
				corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
			}},
			Status: corev1.NodeStatus{
				NodeInfo:   corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: runtime.GOARCH, KubeletVersion: "v1.37.2"},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}},
			},
		}
		if _, err := w.kube.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making Node %s: %w", name, err)
		}
		return nil
	})
}

// darken takes the first nodes' networks away, for so long that nobody counts on them: a
// Lease that lasts a second stands for ten minutes of silence.
func (w *World) darken(ctx context.Context, count int) error {
	return w.setDark(ctx, count, true)
}

// lighten brings them back, all in one moment.
func (w *World) lighten(ctx context.Context, count int) error {
	return w.setDark(ctx, count, false)
}

func (w *World) setDark(ctx context.Context, count int, dark bool) error {
	ready, lease := corev1.ConditionTrue, int(report.LeaseDuration.Seconds())
	if dark {
		ready, lease = corev1.ConditionUnknown, 1
	}
	for _, a := range w.fleet.Agents()[:count] {
		if dark {
			a.Cut()
		} else {
			defer a.Join()
		}
	}
	return each(w.nodes[:count], func(name string) error {
		if err := w.patchLease(ctx, name, lease); err != nil {
			return err
		}
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}})
		if err != nil {
			return err
		}
		if _, err := w.kube.CoreV1().Nodes().PatchStatus(ctx, name, patch); err != nil {
			return fmt.Errorf("changing Node %s: %w", name, err)
		}
		return nil
	})
}

func (w *World) patchLease(ctx context.Context, name string, seconds int) error {
	patch := fmt.Appendf(nil, `{"spec":{"leaseDurationSeconds":%d}}`, seconds)
	_, err := w.kube.CoordinationV1().Leases(v1alpha1.SystemNamespace).Patch(ctx, v1alpha1.AgentLeaseName(name), types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("changing Lease %s: %w", name, err)
	}
	return nil
}

// objects counts NodeImageCaches without reading them all.
func (w *World) objects(ctx context.Context) (int, error) {
	list, err := w.edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("counting objects: %w", err)
	}
	n := len(list.Items)
	if list.RemainingItemCount != nil {
		n += int(*list.RemainingItemCount)
	}
	return n, nil
}

// largestObject gives the bytes of the largest object of ours.
func (w *World) largestObject(ctx context.Context) (largest int, err error) {
	for _, resource := range []string{"imagecaches", "nodeimagecaches", "imagecontents"} {
		for from := "start"; from != ""; {
			page, err := w.page(ctx, resource, strings.TrimPrefix(from, "start"))
			if err != nil {
				return 0, err
			}
			for _, item := range page.Items {
				largest = max(largest, len(item))
			}
			from = page.Metadata.Continue
		}
	}
	return largest, nil
}

// page is a part of a list, not decoded.
type page struct {
	Metadata metav1.ListMeta
	Items    []json.RawMessage
}

func (w *World) page(ctx context.Context, resource, from string) (p page, err error) {
	request := w.edge.EdgecacheV1alpha1().RESTClient().Get().Resource(resource).Param("limit", "500")
	if from != "" {
		request = request.Param("continue", from)
	}
	text, err := request.DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return p, fmt.Errorf("listing %s: %w", resource, err)
	}
	return p, nil
}
