package plan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/evict"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

func priority(p int32) func(*v1alpha1.NodeImage) {
	return func(i *v1alpha1.NodeImage) { i.Priority = p }
}

func TestSpare(t *testing.T) {
	t.Parallel()
	wished := evict.Image{Names: refs("r.io/app:v1", "r.io/app@"+d1.String()), Rank: evict.Wished, Priority: 3}
	old := evict.Image{Names: refs("r.io/app@" + d2.String()), Rank: evict.Previous, Priority: 3}
	desired := wants(image("r.io/app:v1", d1, priority(3)))
	ledger := []store.Entry{{Name: "r.io/app:v1", Digest: d1.String(), Previous: []string{d2.String()}}}
	for name, tc := range map[string]struct {
		edit   func(*Input)
		ledger []store.Entry
		wish   store.Desired
		holds  runtime.Inventory
		want   []evict.Image
	}{
		"what is cached, and what is kept besides": {wish: desired, ledger: ledger, holds: union(named("r.io/app:v1", d1), digestNamed("r.io/app", d2)), want: []evict.Image{old, wished}},
		"what a container uses stays": {
			wish: desired, ledger: ledger, holds: union(named("r.io/app:v1", d1), digestNamed("r.io/app", d2)),
			edit: func(in *Input) { in.InUse = map[string]struct{}{idOf(d1): {}} }, want: []evict.Image{old},
		},
		"all may be in use": {wish: desired, ledger: ledger, holds: named("r.io/app:v1", d1), edit: func(in *Input) { in.UseUnknown = true }},
		"the wish is not known": {
			wish: desired, ledger: ledger, holds: named("r.io/app:v1", d1), edit: func(in *Input) { in.Desired.Known = false },
		},
		"what the agent did not bring stays": {wish: desired, holds: named("r.io/app:v1", d1)},
		"what nobody wishes stays":           {wish: wants(), holds: named("r.io/app:v1", d1)},
		"the sandbox image stays": {
			wish: desired, ledger: ledger, holds: named("r.io/app:v1", d1), edit: func(in *Input) { in.Sandbox = ref("r.io/app:v1") },
		},
		"the sandbox image under another name": {
			wish: desired, ledger: ledger, holds: union(named("r.io/app:v1", d1), named("r.io/pause:v1", d1)),
			edit: func(in *Input) { in.Sandbox = ref("r.io/pause:v1") },
		},
		"an attempt is at work on the name": {
			wish: desired, ledger: ledger, holds: named("r.io/app:v1", d1), edit: func(in *Input) { in.Running = map[string]bool{"r.io/app:v1": true} },
		},
		"the earlier digest stays while the new one is not there": {
			wish: wants(image("r.io/app:v1", d3)), ledger: ledger, holds: union(named("r.io/app:v1", d1), digestNamed("r.io/app", d2)),
			want: []evict.Image{{Names: refs("r.io/app@" + d2.String())}},
		},
		"a tag whose digest is not known stays": {wish: wants(byNode(image("r.io/app:v1", ""))), ledger: ledger, holds: union(named("r.io/app:v1", d1), digestNamed("r.io/app", d2))},
		"tags of one digest go together, as the most important": {
			wish:   wants(image("r.io/app:v1", d1, priority(3)), image("r.io/app:v2", d1, priority(7))),
			ledger: []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}, {Name: "r.io/app:v2", Digest: d1.String()}},
			holds:  union(named("r.io/app:v1", d1), named("r.io/app:v2", d1)),
			want:   []evict.Image{{Names: refs("r.io/app:v1", "r.io/app@"+d1.String(), "r.io/app:v2"), Rank: evict.Wished, Priority: 7}},
		},
		"an earlier digest that another tag wishes": {
			wish:   wants(image("r.io/app:v1", d1, priority(3)), image("r.io/app:v2", d2, priority(9))),
			ledger: ledger, holds: union(named("r.io/app:v1", d1), digestNamed("r.io/app", d2)), want: []evict.Image{wished},
		},
		"a runtime that removes all names or none": {
			wish: desired, ledger: ledger, holds: union(named("r.io/app:v1", d1), named("r.io/stranger:v1", d1)),
			edit: func(in *Input) { in.Untags = false },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := Input{Desired: tc.wish, Ledger: map[string]store.Entry{}, Inventory: tc.holds, Names: true, Pins: true, Untags: true}
			for _, e := range tc.ledger {
				in.Ledger[e.Name] = e
			}
			if tc.edit != nil {
				tc.edit(&in)
			}
			if diff := cmp.Diff(tc.want, Spare(in, nil), cmp.AllowUnexported(imageref.Reference{})); diff != "" {
				t.Errorf("spare (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSpareKnowsTheLastUse: from what was seen, and from the ledger.
func TestSpareKnowsTheLastUse(t *testing.T) {
	t.Parallel()
	in := Input{
		Desired: wants(image("r.io/a:v1", d1), image("r.io/b:v1", d2)), Names: true, Pins: true, Untags: true,
		Ledger: map[string]store.Entry{
			"r.io/a:v1": {Name: "r.io/a:v1", Digest: d1.String(), Used: since}, "r.io/b:v1": {Name: "r.io/b:v1", Digest: d2.String(), Used: since},
		},
		Inventory: union(named("r.io/a:v1", d1), named("r.io/b:v1", d2)),
	}
	seen := since.Add(time.Hour)
	got := Spare(in, map[string]time.Time{idOf(d2): seen})
	if len(got) != 2 || !got[0].Used.Equal(since) || !got[1].Used.Equal(seen) {
		t.Errorf("spare = %+v, want a used at %s and b at %s", got, since, seen)
	}
}
