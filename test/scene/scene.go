package scene

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
)

// leaseSeconds is how long an agent's Lease lasts that is renewed: longer than any test.
const leaseSeconds = 24 * 60 * 60

// Node is a node of a scene.
type Node struct {
	// Name of the Node and of all that belongs to it.
	Name string
	// Labels of the Node, besides its name, platform and site.
	Labels map[string]string
	// Site is the value of the label edgecache.dev/site; empty is no label.
	Site string
	// CPU and Memory are allocatable quantities; empty is 4 and 8Gi.
	CPU, Memory string
	// Images is what the kubelet reports.
	Images []corev1.ContainerImage
	// Status is what the agent reports; nil where there is no agent.
	Status *v1alpha1.NodeImageCacheStatus
}

// Scene makes the objects of a fleet.
type Scene struct {
	kube           kubernetes.Interface
	edge           versioned.Interface
	agents, images int
}

// LabOptions are those of a lab in which a scene can be set: nobody takes the taint of new
// Nodes away, and nobody makes service accounts for pods.
func LabOptions() cluster.Options {
	return cluster.Options{APIServerArgs: []string{"--disable-admission-plugins=TaintNodesByCondition,ServiceAccount"}}
}

// New sets a scene in a lab. The CRDs must be there before the first node with an agent.
func New(lab *cluster.Cluster) (*Scene, error) {
	edge, err := versioned.NewForConfig(lab.ControlPlane().Admin())
	if err != nil {
		return nil, fmt.Errorf("making client: %w", err)
	}
	return &Scene{kube: lab.Client(), edge: edge}, nil
}

// Add makes nodes, and what their agents report.
func (s *Scene) Add(ctx context.Context, nodes ...Node) error {
	for _, n := range nodes {
		node, err := s.kube.CoreV1().Nodes().Create(ctx, n.object(), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("making Node %s: %w", n.Name, err)
		}
		if n.Status != nil {
			if err := s.addAgent(ctx, node, n.Status); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n Node) object() *corev1.Node {
	labels := map[string]string{corev1.LabelHostname: n.Name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH}
	if n.Site != "" {
		labels[v1alpha1.LabelSite] = n.Site
	}
	maps.Copy(labels, n.Labels)
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse(cmp.Or(n.CPU, "4")),
		corev1.ResourceMemory: resource.MustParse(cmp.Or(n.Memory, "8Gi")),
		corev1.ResourcePods:   resource.MustParse("110"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: labels},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room, Images: n.Images,
			NodeInfo:   corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: runtime.GOARCH, KubeletVersion: "v1.37.2"},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}},
		},
	}
}

// addAgent makes the object that the controller would make, what the agent writes into it,
// and the agent's Lease.
func (s *Scene) addAgent(ctx context.Context, node *corev1.Node, status *v1alpha1.NodeImageCacheStatus) error {
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	object := &v1alpha1.NodeImageCache{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, Namespace: v1alpha1.SystemNamespace, OwnerReferences: owner},
		Spec:       v1alpha1.NodeImageCacheSpec{NodeUID: string(node.UID), Images: wishesOf(status)},
	}
	if _, err := s.edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making NodeImageCache %s: %w", node.Name, err)
	}
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AgentLeaseName(node.Name), Namespace: v1alpha1.SystemNamespace, OwnerReferences: owner},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &node.Name, LeaseDurationSeconds: new(int32(leaseSeconds)), RenewTime: new(metav1.NowMicro())},
	}
	if _, err := s.kube.CoordinationV1().Leases(v1alpha1.SystemNamespace).Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making Lease %s: %w", node.Name, err)
	}
	s.agents++
	return s.Report(ctx, node.Name, func(into *v1alpha1.NodeImageCacheStatus) { *into = *status })
}

// wishesOf is what the controller asked for, to have the agent report this.
func wishesOf(status *v1alpha1.NodeImageCacheStatus) (wishes []v1alpha1.NodeImage) {
	for _, i := range status.Images {
		wishes = append(wishes, v1alpha1.NodeImage{Name: i.Name, Digest: i.Digest, Size: i.Size})
	}
	return wishes
}

// Report changes what the agent of a node reports.
func (s *Scene) Report(ctx context.Context, node string, edit func(*v1alpha1.NodeImageCacheStatus)) error {
	objects := s.edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		object, err := objects.Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(&object.Status)
		_, err = objects.UpdateStatus(ctx, object, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("reporting for %s: %w", node, err)
	}
	return nil
}

// Agents is how many nodes have one.
func (s *Scene) Agents() int { return s.agents }

// Images is how many were published.
func (s *Scene) Images() int { return s.images }

// Silence lets the Leases of nodes' agents run out; Speak renews them.
func (s *Scene) Silence(ctx context.Context, nodes ...string) error { return s.renew(ctx, 1, nodes) }

// Speak ends Silence.
func (s *Scene) Speak(ctx context.Context, nodes ...string) error {
	return s.renew(ctx, leaseSeconds, nodes)
}

func (s *Scene) renew(ctx context.Context, seconds int32, nodes []string) error {
	patch, err := json.Marshal(map[string]any{"spec": coordinationv1.LeaseSpec{LeaseDurationSeconds: &seconds, RenewTime: new(metav1.NowMicro())}})
	if err != nil {
		return err
	}
	for _, node := range nodes {
		_, err := s.kube.CoordinationV1().Leases(v1alpha1.SystemNamespace).Patch(ctx, v1alpha1.AgentLeaseName(node), types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return fmt.Errorf("changing Lease %s: %w", node, err)
		}
	}
	return nil
}

// Publish says what images consist of, as the controller does for images that it looked up.
func (s *Scene) Publish(ctx context.Context, images ...Image) error {
	for _, i := range images {
		content, err := i.Content()
		if err != nil {
			return err
		}
		if _, err = s.edge.EdgecacheV1alpha1().ImageContents().Create(ctx, content, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making ImageContent of %s: %w", i.Name, err)
		}
		s.images++
	}
	return nil
}

// Pod makes a pod of one image for a scheduler.
func (s *Scene) Pod(ctx context.Context, name, scheduler, image string, edit ...func(*corev1.PodSpec)) error {
	return s.PodOf(ctx, "", name, scheduler, image, edit...)
}

// PodOf is Pod with a pod that is owned by an object of a kind of the group apps, such as DaemonSet.
func (s *Scene) PodOf(ctx context.Context, kind, name, scheduler, image string, edit ...func(*corev1.PodSpec)) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault}, Spec: corev1.PodSpec{
		SchedulerName: scheduler, Containers: []corev1.Container{{Name: "main", Image: image, ImagePullPolicy: corev1.PullIfNotPresent}},
	}}
	if kind != "" {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, UID: types.UID(name), Controller: new(true)}}
	}
	for _, e := range edit {
		e(&pod.Spec)
	}
	if _, err := s.kube.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making pod %s: %w", name, err)
	}
	return nil
}
