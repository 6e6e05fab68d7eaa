package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// TestSandboxImage: the image of pod sandboxes is pinned where it is, and whoever wants it
// gone does not get that.
func TestSandboxImage(t *testing.T) {
	t.Parallel()
	const pause = "r.io/pause:3"
	never := func(i *v1alpha1.NodeImage) { i.Pin = v1alpha1.PinNever }
	foreign := func(h *runtime.Held) { h.Managed, h.Pinned = false, false }
	tests := map[string]struct {
		desired store.Desired
		ledger  []store.Entry
		holds   runtime.Inventory
		noPins  bool
		want    Steps
	}{
		"it is not there, and nobody wishes it": {desired: wants()},
		"it is pinned and not taken into the ledger": {
			desired: wants(),
			holds:   edited(runtime.Inventory{ref(pause): {Digest: d1, Complete: true}}, foreign),
			want:    Steps{Pin: refs(pause)},
		},
		"also while the wish is unknown": {
			holds: edited(runtime.Inventory{ref(pause): {Digest: d1, Complete: true}}, foreign),
			want:  Steps{Pin: refs(pause)},
		},
		"pinned it is left alone": {
			desired: wants(),
			holds:   edited(runtime.Inventory{ref(pause): {Digest: d1, Complete: true}}, func(h *runtime.Held) { h.Pinned = true }),
		},
		"what cannot be pinned is not": {
			desired: wants(), noPins: true,
			holds: edited(runtime.Inventory{ref(pause): {Digest: d1, Complete: true}}, foreign),
		},
		"wished, and lost, it comes back": {
			desired: wants(image(pause, d1)),
			want:    Steps{Missing: []Image{{Ref: ref(pause), Digest: d1, Pin: true}}},
		},
		"wished without a pin it has one": {
			desired: wants(image(pause, d1, never)),
			ledger:  []store.Entry{{Name: pause, Digest: d1.String()}},
			holds:   named(pause, d1),
			want:    Steps{Cached: []Image{{Ref: ref(pause), Digest: d1, Pin: true}}},
		},
		"no longer wished it keeps its name and its pin": {
			desired: wants(),
			ledger:  []store.Entry{{Name: pause, Digest: d1.String()}},
			holds:   named(pause, d1),
			want:    Steps{Release: refs("r.io/pause@" + d1.String()), Drop: []string{pause}},
		},
		"it is not removed": {
			desired: removes(pause, d1),
			ledger:  []store.Entry{{Name: pause, Digest: d1.String()}},
			holds:   named(pause, d1),
			want:    Steps{Release: refs("r.io/pause@" + d1.String()), Drop: []string{pause}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Next(Input{
				Desired: tc.desired, Ledger: ledgerOf(tc.ledger), Inventory: tc.holds,
				Names: true, Pins: !tc.noPins, Untags: true, Sandbox: ref(pause),
			})
			if diff := cmp.Diff(tc.want, got, compare...); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}
