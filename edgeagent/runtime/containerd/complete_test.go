package containerd

import (
	"context"
	"strconv"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
)

// TestStacked: a layer counts as unpacked when it and all below it are, and as lazy when any
// of them is.
func TestStacked(t *testing.T) {
	t.Parallel()
	layer := func(parent string, labels ...string) snapshots.Info {
		info := snapshots.Info{Kind: snapshots.KindCommitted, Parent: parent, Labels: map[string]string{"containerd.io/snapshot.ref": "x"}}
		for _, l := range labels {
			info.Labels[l] = "any"
		}
		return info
	}
	endless := map[string]snapshots.Info{}
	for i := range 300 {
		endless[strconv.Itoa(i)] = layer(strconv.Itoa(i + 1))
	}
	endless["top"] = layer("0")
	tests := map[string]struct {
		have        map[string]snapshots.Info
		there, lazy bool
	}{
		"nothing":            {},
		"one layer":          {map[string]snapshots.Info{"top": layer("")}, true, false},
		"two layers":         {map[string]snapshots.Info{"top": layer("low"), "low": layer("")}, true, false},
		"the lower is lost":  {map[string]snapshots.Info{"top": layer("low")}, false, false},
		"being unpacked":     {map[string]snapshots.Info{"top": {Kind: snapshots.KindActive}}, false, false},
		"stargz":             {map[string]snapshots.Info{"top": layer("", "containerd.io/snapshot/remote")}, true, true},
		"nydus":              {map[string]snapshots.Info{"top": layer("", "containerd.io/snapshot/nydus-blob")}, true, true},
		"the lower is lazy":  {map[string]snapshots.Info{"top": layer("low"), "low": layer("", "containerd.io/snapshot/remote")}, true, true},
		"more than may be":   {endless, false, false},
		"its own parent":     {map[string]snapshots.Info{"top": layer("top")}, false, false},
		"stargz, fell back":  {map[string]snapshots.Info{"top": layer("", "containerd.io/snapshot/remote/stargz.digest")}, true, false},
		"labels of nobody's": {map[string]snapshots.Info{"top": layer("", "containerd.io/gc.root")}, true, false},
	}
	for name, tc := range tests {
		find := func(_ context.Context, name string) (snapshots.Info, bool, error) {
			info, ok := tc.have[name]
			return info, ok, nil
		}
		there, lazy, err := stacked(t.Context(), "top", find)
		if err != nil || there != tc.there || lazy != tc.lazy {
			t.Errorf("%s: there %v, lazy %v, %v, want %v, %v", name, there, lazy, err, tc.there, tc.lazy)
		}
	}
}
