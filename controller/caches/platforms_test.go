package caches

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

// TestPlatformsOfTheNodesThatAnImageIsFor: the agent's word counts before the kubelet's, who
// does not know the variant.
func TestPlatformsOfTheNodesThatAnImageIsFor(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	for i, n := range []struct{ site, agent, kubelet string }{
		{"lisbon", "linux/amd64", "amd64"}, {"lisbon", "", "amd64"}, {"porto", "linux/arm/v6", "arm"},
		{"porto", "", "arm"}, {"faro", "", "arm64"}, {"faro", "", ""}, {"faro", "no platform at all", ""},
	} {
		s.join(i, func(o *v1alpha1.NodeImageCache) { o.Status.Platform = n.agent })
		item, _, err := s.nodes.GetByKey(fmt.Sprintf("node-%05d", i))
		node, ok := item.(*corev1.Node)
		if !ok || err != nil {
			t.Fatalf("%T is no Node (%v)", item, err)
		}
		node.Labels["edgecache.dev/site"] = n.site
		node.Status.NodeInfo = corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: n.kubelet}
	}
	ic := resolved("pos")
	ic.Spec.CacheSpec = []v1alpha1.CacheSpecImages{
		{Images: []v1alpha1.ImageReference{"r.io/a:v1", "r.io/both:v1"}, NodeSelector: map[string]v1alpha1.LabelValue{"edgecache.dev/site": "lisbon"}},
		{Images: []v1alpha1.ImageReference{"r.io/b:v1", "r.io/both:v1"}, NodeSelector: map[string]v1alpha1.LabelValue{"edgecache.dev/site": "porto"}},
		{Images: []v1alpha1.ImageReference{"r.io/c:v1"}, NodeSelector: map[string]v1alpha1.LabelValue{"edgecache.dev/site": "faro"}},
		{Images: []v1alpha1.ImageReference{"r.io/none:v1"}, NodeSelector: map[string]v1alpha1.LabelValue{"edgecache.dev/site": "braga"}},
	}
	s.create(ic)
	of := s.platforms(s.View.Get(wish.OwnerOf(ic)))
	for image, want := range map[string][]string{
		"r.io/a:v1": {"linux/amd64"}, "r.io/b:v1": {"linux/arm/v6", "linux/arm/v7"}, "r.io/both:v1": {"linux/amd64", "linux/arm/v6", "linux/arm/v7"},
		"r.io/c:v1": {"linux/arm64"}, "r.io/none:v1": nil,
	} {
		ref, err := imageref.Parse(image)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, of(ref)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", image, diff)
		}
	}
}
