package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/product"
	"edgecache.dev/test/scene"
)

// stage is a lab with the scheduler running in it, and nodes that are as the scheduler is told.
type stage struct {
	*testing.T
	*scene.Scene
	lab       *cluster.Cluster
	scheduler *product.Scheduler
}

// newStage starts a lab with the CRDs, in which no scheduler runs yet.
func newStage(t *testing.T, options cluster.Options) *stage {
	t.Helper()
	lab := cluster.ForTest(t, options)
	if err := product.Prepare(t.Context(), lab); err != nil {
		t.Fatal(err)
	}
	return setStage(t, lab)
}

func setStage(t *testing.T, lab *cluster.Cluster) *stage {
	t.Helper()
	s, err := scene.New(lab)
	if err != nil {
		t.Fatal(err)
	}
	return &stage{T: t, Scene: s, lab: lab}
}

// within is the stage for a subtest.
func (s *stage) within(t *testing.T) *stage {
	c := *s
	c.T = t
	return &c
}

func (s *stage) start(spec product.SchedulerSpec) {
	s.Helper()
	var err error
	if s.scheduler, err = product.StartScheduler(s.Context(), s.lab, spec); err != nil {
		s.Fatal(err)
	}
}

// profile is a profile with the plugin under a name, with its arguments in YAML's flow style.
func profile(name, args string) string {
	return fmt.Sprintf(`{schedulerName: %s, percentageOfNodesToScore: 100,
  plugins: {multiPoint: {enabled: [{name: ImageCacheLocality, weight: 3}], disabled: [{name: ImageLocality}]}},
  pluginConfig: [{name: ImageCacheLocality, args: %s},
    {name: PodTopologySpread, args: {defaultingType: List, defaultConstraints: []}}]}`, name, args)
}

func schedulerConfig(profiles ...string) string {
	return "profiles:\n- " + strings.Join(profiles, "\n- ") + "\n"
}

// row makes the nodes of a row, <row>-1 and so on, each in a site of its own, with what their agents report.
func (s *stage) row(row string, reports ...*v1alpha1.NodeImageCacheStatus) {
	s.Helper()
	for i, r := range reports {
		name := fmt.Sprintf("%s-%d", row, i+1)
		s.must(s.Add(s.Context(), scene.Node{Name: name, Site: name, Labels: map[string]string{"row": row}, Status: r}))
	}
}

// inRow holds a pod to the nodes of a row.
func inRow(row string) func(*corev1.PodSpec) {
	return func(spec *corev1.PodSpec) { spec.NodeSelector = map[string]string{"row": row} }
}

// offline makes two nodes that are cut off from the registry of an image, which a third one holds elsewhere.
func (s *stage) offline(row string) scene.Image {
	s.Helper()
	app := s.image(row)
	s.row(row, cutOff(reporting()), cutOff(reporting()))
	s.row(row+"-holder", cached(app))
	return app
}

// image publishes an image of one layer, of 300 MB.
func (s *stage) image(name string) scene.Image {
	s.Helper()
	app := scene.Image{Name: product.ExampleRegistry + "/" + name + "/app:v1", Layers: []v1alpha1.Layer{scene.Layer(name, 300_000_000)}}
	s.must(s.Publish(s.Context(), app))
	return app
}

// informed waits until the scheduler knows of all that is there.
func (s *stage) informed() {
	s.Helper()
	eventually(s.T, "the scheduler is informed", func() error {
		nodes, contents := s.metric("edgecache_scheduler_nodes"), s.metric("edgecache_scheduler_contents")
		if int(nodes) != s.Agents() || int(contents) != s.Images() {
			return fmt.Errorf("it knows %v nodes and %v images, want %d and %d", nodes, contents, s.Agents(), s.Images())
		}
		return nil
	})
}

func (s *stage) expectOn(want, got string) {
	s.Helper()
	if got != want {
		s.Errorf("the pod is on %s, want %s", got, want)
	}
}

// offlineMessage is in the words with which the scheduler refuses nodes.
const offlineMessage = "registry"

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// cached is the report of an agent whose node holds images.
func cached(images ...scene.Image) *v1alpha1.NodeImageCacheStatus {
	status := reporting()
	for _, i := range images {
		status.Images = append(status.Images, i.Cached())
	}
	return status
}

// reporting is the report of an agent whose node holds nothing: 2 MB/s from the registry.
func reporting() *v1alpha1.NodeImageCacheStatus {
	return &v1alpha1.NodeImageCacheStatus{
		Platform: scene.Platform, AgentVersion: product.Version, BootID: "1", UnpackBytesPerSecond: 50_000_000,
		Registries: []v1alpha1.RegistryStatus{{
			Host: product.ExampleRegistry, Reachable: metav1.ConditionTrue, State: v1alpha1.LinkState("Up"), BytesPerSecond: 2_000_000, Since: metav1.Now()}},
	}
}

// cutOff is a report without its link to the registry.
func cutOff(status *v1alpha1.NodeImageCacheStatus) *v1alpha1.NodeImageCacheStatus {
	status.Registries[0].Reachable, status.Registries[0].State = metav1.ConditionFalse, v1alpha1.LinkState("Down")
	return status
}

// place makes a pod and gives the node that it is placed on.
func (s *stage) place(name, scheduler, image string, edit ...func(*corev1.PodSpec)) string {
	s.Helper()
	s.must(s.Pod(s.Context(), name, scheduler, image, edit...))
	return s.placed(name)
}

func (s *stage) placed(name string) (node string) {
	s.Helper()
	eventually(s.T, "pod "+name+" is placed", func() error {
		pod := s.pod(name)
		if node = pod.Spec.NodeName; node == "" {
			return fmt.Errorf("conditions %s", asJSON(pod.Status.Conditions))
		}
		return nil
	})
	return node
}

func (s *stage) pod(name string) *corev1.Pod {
	s.Helper()
	pod, err := s.lab.Client().CoreV1().Pods("default").Get(s.Context(), name, metav1.GetOptions{})
	s.must(err)
	return pod
}

// refused waits until the scheduler says why it does not place a pod.
func (s *stage) refused(name, why string) {
	s.Helper()
	eventually(s.T, "pod "+name+" is refused", func() error {
		pod := s.pod(name)
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && strings.Contains(c.Message, why) {
				return nil
			}
		}
		if pod.Spec.NodeName != "" {
			s.Fatalf("pod %s was placed on %s", name, pod.Spec.NodeName)
		}
		return fmt.Errorf("conditions %s, want %q", asJSON(pod.Status.Conditions), why)
	})
}

// metric gives a sum over the scheduler's series of a name that have all of the labels.
func (s *stage) metric(name string, labels ...string) float64 {
	s.Helper()
	sum, err := s.scheduler.Metric(s.Context(), name, labels...)
	s.must(err)
	return sum
}

// example reads one of the scheduler's manifests.
func example(t *testing.T, lab *cluster.Cluster, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(lab.Tools().Root(), product.SchedulerExamples, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
