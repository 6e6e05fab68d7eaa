package schedulerplugin

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/scheduler-plugin/inventory"
)

// waiting are the pods that Filter refused nodes to.
type waiting struct {
	mu   sync.Mutex
	pods map[types.UID]refused // guarded by mu
}

type refused struct {
	pod    *corev1.Pod
	demand *inventory.Demand
}

// maxWaiting bounds what is remembered; pods beyond it are tried again when kube-scheduler does so by itself, after at
// most five minutes.
const maxWaiting = 10_000

func newWaiting() *waiting { return &waiting{pods: map[types.UID]refused{}} }

func (w *waiting) add(pod *corev1.Pod, demand *inventory.Demand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pods) < maxWaiting {
		w.pods[pod.UID] = refused{pod, demand}
	}
}

func (w *waiting) remove(pod types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pods, pod)
}

// take gives the pods that the news may matter to, by namespace and name, and forgets them.
func (w *waiting) take(news inventory.News) map[string]*corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pods) == 0 {
		return nil
	}
	found := map[string]*corev1.Pod{}
	for uid, r := range w.pods {
		if news.Unknown || overlap(news.Hosts, r.demand.Hosts) || overlap(news.Names, r.demand.Names) || overlap(news.Names, r.demand.Digests) {
			found[r.pod.Namespace+"/"+r.pod.Name] = r.pod
			delete(w.pods, uid)
		}
	}
	return found
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
