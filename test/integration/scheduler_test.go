package integration

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/product"
	"edgecache.dev/test/scene"
)

// Profiles of the tests' scheduler, by the offline policy that they have.
const (
	penalizing = "penalizing"
	enforcing  = "enforcing"
	ignoring   = "ignoring"
)

// threeProfiles is the configuration with all of them.
func threeProfiles() string {
	return schedulerConfig(profile(penalizing, "{}"), profile(enforcing, "{offlinePolicy: Enforce}"), profile(ignoring, "{offlinePolicy: Ignore}"))
}

// TestSchedulerPlaces: where pods go. Each row sets up nodes of its own, for which pods are held to it, and then places
// pods, all rows at once.
func TestSchedulerPlaces(t *testing.T) {
	t.Parallel()
	options, audit := audited(t, scene.LabOptions())
	s := newStage(t, options)
	t.Cleanup(func() { expectWrites(t, audit) })
	rows := []struct {
		name string
		row  func(s *stage, row string) (test func(*stage))
	}{
		{"warm", warmNodeWins},
		{"layers", layersBeatNothing},
		{"full", saturatedLoses},
		{"coming", comingBeatsNothing},
		{"unknown", unknownImage},
		{"silent", silentAgentIsNeutral},
		{"penalized", offlineIsPenalized},
		{"holds", offlineHoldsIt},
		{"link", linkReturns},
		{"arrives", imageArrives},
		{"daemon", daemonSetsAreLeftAlone},
		{"named", namedNodesAreLeftAlone},
	}
	tests := make([]func(*stage), len(rows))
	for i, r := range rows {
		tests[i] = r.row(s, r.name)
	}
	s.start(product.SchedulerSpec{Config: threeProfiles(), Args: []string{"-v=4"}})
	s.informed()
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			tests[i](s.within(t))
		})
	}
}

// warmNodeWins: all pods go where the image is, although others are emptier.
func warmNodeWins(s *stage, row string) func(*stage) {
	app := s.image(row)
	s.row(row, reporting(), cached(app), reporting())
	return func(s *stage) {
		for i := range 3 {
			s.expectOn(row+"-2", s.place(fmt.Sprintf("%s-%d", row, i), penalizing, app.Name, inRow(row)))
		}
	}
}

// layersBeatNothing: the node that holds the last version has most of the new one.
func layersBeatNothing(s *stage, row string) func(*stage) {
	base := scene.Layer("layers base", 280_000_000)
	before := scene.Image{Name: product.ExampleRegistry + "/layers/app:v1", Layers: []v1alpha1.Layer{base, scene.Layer("layers v1", 20_000_000)}}
	after := scene.Image{Name: product.ExampleRegistry + "/layers/app:v2", Layers: []v1alpha1.Layer{base, scene.Layer("layers v2", 20_000_000)}}
	s.must(s.Publish(s.Context(), before, after))
	wishes := reporting() // some node has to say what v2 stands for
	wishes.Images = []v1alpha1.NodeImageStatus{after.Pulling(0)}
	wishes.Images[0].Phase = v1alpha1.PhasePending
	s.row(row, wishes, reporting(), cached(before), reporting())
	return func(s *stage) { s.expectOn(row+"-3", s.place(row, penalizing, after.Name, inRow(row))) }
}

// saturatedLoses: the score of a full node fades, however warm.
func saturatedLoses(s *stage, row string) func(*stage) {
	app := s.image(row)
	s.row(row, cached(app), reporting())
	s.must(s.Pod(s.Context(), "filler", penalizing, "registry.example/filler:v1", requests("3800m"), onNode(row+"-1")))
	return func(s *stage) { s.expectOn(row+"-2", s.place(row, penalizing, app.Name, inRow(row), requests("190m"))) }
}

// comingBeatsNothing: a node that has most bytes of a pull is ready before one that has none.
func comingBeatsNothing(s *stage, row string) func(*stage) {
	app, coming := s.image(row), reporting()
	coming.Images = []v1alpha1.NodeImageStatus{app.Pulling(290_000_000)}
	s.row(row, reporting(), coming, reporting())
	return func(s *stage) { s.expectOn(row+"-2", s.place(row, penalizing, app.Name, inRow(row))) }
}

// unknownImage: nobody knows what it is, so it does not matter.
func unknownImage(s *stage, row string) func(*stage) {
	s.row(row, cutOff(reporting()), cutOff(reporting()))
	return func(s *stage) { s.place(row, enforcing, "registry.elsewhere/unknown:v1", inRow(row)) }
}

// silentAgentIsNeutral: what an agent that is gone said of a node holds for nothing: it is no reason to refuse it.
func silentAgentIsNeutral(s *stage, row string) func(*stage) {
	app := s.image(row)
	s.row(row, cutOff(reporting()))
	s.row(row+"-holder", cached(app))
	s.must(s.Silence(s.Context(), row+"-1"))
	return func(s *stage) { s.expectOn(row+"-1", s.place(row, enforcing, app.Name, inRow(row))) }
}

// offlineIsPenalized: a node without its registry comes last, and is better than none.
func offlineIsPenalized(s *stage, row string) func(*stage) {
	app := s.image(row)
	s.row(row, cutOff(reporting()), reporting(), cutOff(reporting()))
	s.row(row+"-holder", cached(app))
	return func(s *stage) {
		s.expectOn(row+"-2", s.place(row, penalizing, app.Name, inRow(row)))
		s.place(row+"-only", penalizing, app.Name, func(spec *corev1.PodSpec) {
			spec.NodeSelector = map[string]string{corev1.LabelHostname: row + "-1"}
		})
	}
}

// offlineHoldsIt: cut off from its registry, a node is as good as any where the image is, unless the kubelet has to ask.
func offlineHoldsIt(s *stage, row string) func(*stage) {
	app := s.image(row)
	s.row(row, cutOff(reporting()), cutOff(cached(app)), cutOff(reporting()))
	return func(s *stage) {
		s.expectOn(row+"-2", s.place(row, enforcing, app.Name, inRow(row)))
		always := func(spec *corev1.PodSpec) { spec.Containers[0].ImagePullPolicy = corev1.PullAlways }
		s.must(s.Pod(s.Context(), row+"-always", enforcing, app.Name, inRow(row), always))
		s.refused(row+"-always", offlineMessage)
		s.place(row+"-ignoring", ignoring, app.Name, inRow(row), always)
	}
}

// linkReturns: a pod that was refused is placed when the node's registry is back.
func linkReturns(s *stage, row string) func(*stage) {
	app := s.offline(row)
	return func(s *stage) {
		s.must(s.Pod(s.Context(), row, enforcing, app.Name, inRow(row)))
		s.refused(row, offlineMessage)
		s.must(s.Report(s.Context(), row+"-1", func(status *v1alpha1.NodeImageCacheStatus) { *status = *reporting() }))
		s.expectOn(row+"-1", s.placed(row))
	}
}

// imageArrives: or when the image comes by another way.
func imageArrives(s *stage, row string) func(*stage) {
	app := s.offline(row)
	return func(s *stage) {
		s.must(s.Pod(s.Context(), row, enforcing, app.Name, inRow(row)))
		s.refused(row, offlineMessage)
		s.must(s.Report(s.Context(), row+"-1", func(status *v1alpha1.NodeImageCacheStatus) { *status = *cutOff(cached(app)) }))
		s.expectOn(row+"-1", s.placed(row))
	}
}

// daemonSetsAreLeftAlone: their pods have one node each: they start there when the registry is back.
func daemonSetsAreLeftAlone(s *stage, row string) func(*stage) {
	app := s.offline(row)
	return func(s *stage) {
		for _, node := range []string{row + "-1", row + "-2"} {
			s.must(s.PodOf(s.Context(), "DaemonSet", node, enforcing, app.Name, affineTo(node)))
			s.expectOn(node, s.placed(node))
		}
	}
}

// namedNodesAreLeftAlone: a pod that names its node is nobody's to place.
func namedNodesAreLeftAlone(s *stage, row string) func(*stage) {
	app := s.offline(row)
	return func(s *stage) {
		s.expectOn(row+"-1", s.place(row, enforcing, app.Name, onNode(row+"-1")))
		s.expectOn(row+"-2", s.place(row+"-bare", enforcing, "registry.example/filler:v1", onNode(row+"-2")))
	}
}

// affineTo is how the controller of DaemonSets holds pods to their nodes.
func affineTo(node string) func(*corev1.PodSpec) {
	return func(spec *corev1.PodSpec) {
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}}
	}
}

func onNode(node string) func(*corev1.PodSpec) {
	return func(spec *corev1.PodSpec) { spec.NodeName = node }
}

func requests(cpu string) func(*corev1.PodSpec) {
	return func(spec *corev1.PodSpec) {
		spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("10Mi")}
	}
}
