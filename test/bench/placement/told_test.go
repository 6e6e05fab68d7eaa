package placement

import (
	"slices"
	"testing"

	"edgecache.dev/api/v1alpha1"
)

// TestTellingLeavesOut: a variant without a term is told all but what that term is made of.
func TestTellingLeavesOut(t *testing.T) {
	t.Parallel()
	p := newPlan(scenarios()[2], 1)
	i, n, s := p.images[0], p.nodes[0], p.sites[0]
	n.toldSpeed, n.toldUnpack = 5, 6
	full := content(1, i, everything)
	if len(full.Platforms) != 2 || len(full.Platforms[0].Layers) != 5 || !slices.Equal(full.Repositories, []string{i.repository}) {
		t.Errorf("all of image content is %+v", full)
	}
	whole := content(1, i, telling{})
	if got := whole.Platforms[0].Layers; len(got) != 1 || got[0].Size != full.Platforms[0].Size || whole.Repositories != nil {
		t.Errorf("without layers and repositories: %+v", whole)
	}
	if got := nodeStatus(n, s, 0, nil, nil, everything); got.Registries[0].BytesPerSecond != 5 || got.UnpackBytesPerSecond != 6 {
		t.Errorf("speeds are not told: %+v", got)
	}
	if got := nodeStatus(n, s, 0, nil, nil, telling{}); got.Registries[0].BytesPerSecond != 0 || got.UnpackBytesPerSecond != 0 {
		t.Errorf("speeds are told: %+v", got)
	}
}

// TestStatusAndNodeAgree: kubelet and agent name the same images, wished or not.
func TestStatusAndNodeAgree(t *testing.T) {
	t.Parallel()
	p := newPlan(scenarios()[2], 1)
	n, s, to := p.nodes[0], p.sites[0], p.rollouts[0].to
	status := nodeStatus(n, s, 0, n.holds, []*image{to}, everything)
	if len(status.Images) != 1 || status.Images[0].Phase != v1alpha1.PhasePending || len(status.OtherImages) != len(n.holds) {
		t.Errorf("before the pull: %+v", status)
	}
	held := append(slices.Clone(n.holds), to)
	status = nodeStatus(n, s, 0, held, []*image{to}, everything)
	if status.Images[0].Phase != v1alpha1.PhaseCached || len(status.OtherImages) != len(n.holds) {
		t.Errorf("after the pull: %+v", status)
	}
	if images := nodeObject(n, s, held).Status.Images; len(images) != len(held) || images[0].Names[1] != held[0].name() {
		t.Errorf("the kubelet lists %+v", images)
	}
}
