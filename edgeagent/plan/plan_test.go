package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

var (
	d1, d2, d3 = digestOf('1'), digestOf('2'), digestOf('3')
	since      = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
)

func TestNext(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		desired store.Desired
		ledger  []store.Entry
		holds   runtime.Inventory
		inUse   []string
		want    Steps
	}{
		"a missing image is brought": {
			desired: wants(image("r.io/app:v1", d1)),
			want:    Steps{Missing: []Image{{Ref: ref("r.io/app:v1"), Digest: d1, Pin: true}}},
		},
		"the most important comes first": {
			desired: wants(image("r.io/a:v1", d1), image("r.io/b:v1", d2, func(i *v1alpha1.NodeImage) { i.Priority = 5 })),
			want: Steps{Missing: []Image{
				{Ref: ref("r.io/b:v1"), Digest: d2, Pin: true, Priority: 5}, {Ref: ref("r.io/a:v1"), Digest: d1, Pin: true},
			}},
		},
		"an image that is as wished goes into the ledger": {
			desired: wants(image("r.io/app:v1", d1)),
			holds:   named("r.io/app:v1", d1),
			want: Steps{
				Cached: []Image{{Ref: ref("r.io/app:v1"), Digest: d1, Pin: true}},
				Save:   []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			},
		},
		"an image without its digest name is not as wished": {
			desired: wants(image("r.io/app:v1", d1)),
			holds:   without(named("r.io/app:v1", d1), "r.io/app@"+d1.String()),
			want:    Steps{Missing: []Image{{Ref: ref("r.io/app:v1"), Digest: d1, Pin: true}}},
		},
		"an incomplete image is not as wished": {
			desired: wants(image("r.io/app:v1", d1)),
			holds:   edited(named("r.io/app:v1", d1), func(h *runtime.Held) { h.Complete = false }),
			want:    Steps{Missing: []Image{{Ref: ref("r.io/app:v1"), Digest: d1, Pin: true}}},
		},
		"a pin that changed is mended": {
			desired: wants(image("r.io/app:v1", d1, func(i *v1alpha1.NodeImage) { i.Pin = v1alpha1.PinNever })),
			holds:   named("r.io/app:v1", d1),
			want:    Steps{Missing: []Image{{Ref: ref("r.io/app:v1"), Digest: d1}}},
		},
		"while a new digest comes the old one stays": {
			desired: wants(image("r.io/app:v1", d2, keep(0))),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			holds:   named("r.io/app:v1", d1),
			want:    Steps{Missing: []Image{{Ref: ref("r.io/app:v1"), Digest: d2, Pin: true}}},
		},
		"a superseded digest is kept as asked": {
			desired: wants(image("r.io/app:v1", d2)),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			holds:   union(named("r.io/app:v1", d2), digestNamed("r.io/app", d1)),
			want: Steps{
				Cached: []Image{{Ref: ref("r.io/app:v1"), Digest: d2, Pin: true}},
				Save:   []store.Entry{{Name: "r.io/app:v1", Digest: d2.String(), Previous: []string{d1.String()}}},
			},
		},
		"superseded digests beyond that go": {
			desired: wants(image("r.io/app:v1", d3)),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d2.String(), Previous: []string{d1.String()}}},
			holds:   union(named("r.io/app:v1", d3), digestNamed("r.io/app", d2), digestNamed("r.io/app", d1)),
			want: Steps{
				Cached:     []Image{{Ref: ref("r.io/app:v1"), Digest: d3, Pin: true}},
				Superseded: refs("r.io/app@" + d1.String()),
				Save:       []store.Entry{{Name: "r.io/app:v1", Digest: d3.String(), Previous: []string{d2.String(), d1.String()}}},
			},
		},
		"a superseded digest that another tag wants stays": {
			desired: wants(image("r.io/app:v1", d2, keep(0)), image("r.io/app:v2", d1)),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}, {Name: "r.io/app:v2", Digest: d1.String()}},
			holds:   union(named("r.io/app:v1", d2), named("r.io/app:v2", d1)),
			want: Steps{
				Cached: []Image{{Ref: ref("r.io/app:v1"), Digest: d2, Pin: true}, {Ref: ref("r.io/app:v2"), Digest: d1, Pin: true}},
				Save:   []store.Entry{{Name: "r.io/app:v1", Digest: d2.String()}},
			},
		},
		"a superseded digest that a container uses goes later": {
			desired: wants(image("r.io/app:v1", d2, keep(0))),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			holds:   union(named("r.io/app:v1", d2), digestNamed("r.io/app", d1)),
			inUse:   []string{idOf(d1)},
			want: Steps{
				Cached: []Image{{Ref: ref("r.io/app:v1"), Digest: d2, Pin: true}},
				Save:   []store.Entry{{Name: "r.io/app:v1", Digest: d2.String(), Previous: []string{d1.String()}}},
			},
		},
		"a removal takes both names": {
			desired: removes("r.io/app:v1", d1),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			holds:   named("r.io/app:v1", d1),
			want: Steps{Removals: []Removal{{
				Name: "r.io/app:v1", Digest: d1.String(), Since: since, Names: refs("r.io/app@"+d1.String(), "r.io/app:v1"),
			}}},
		},
		"a removal leaves a name that another image needs": {
			desired: also(removes("r.io/app:v1", d1), image("r.io/app:v2", d1)),
			ledger:  []store.Entry{{Name: "r.io/app:v2", Digest: d1.String()}},
			holds:   union(named("r.io/app:v1", d1), named("r.io/app:v2", d1)),
			want: Steps{
				Cached:   []Image{{Ref: ref("r.io/app:v2"), Digest: d1, Pin: true}},
				Removals: []Removal{{Name: "r.io/app:v1", Digest: d1.String(), Since: since, Names: refs("r.io/app:v1")}},
			},
		},
		"a removal leaves a tag that moved on": {
			desired: removes("r.io/app:v1", d1),
			holds:   union(edited(named("r.io/app:v1", d2), func(h *runtime.Held) { h.Managed = false }), digestNamed("r.io/app", d1)),
			want:    Steps{Removals: []Removal{{Name: "r.io/app:v1", Digest: d1.String(), Since: since, Names: refs("r.io/app@" + d1.String())}}},
		},
		"a removal takes kept earlier digests along": {
			desired: removes("r.io/app:v1", d2),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d2.String(), Previous: []string{d1.String()}}},
			holds:   union(named("r.io/app:v1", d2), digestNamed("r.io/app", d1)),
			want: Steps{Removals: []Removal{{
				Name: "r.io/app:v1", Digest: d2.String(), Since: since,
				Names: refs("r.io/app@"+d2.String(), "r.io/app:v1", "r.io/app@"+d1.String()),
			}}},
		},
		"a removal waits for containers": {
			desired: removes("r.io/app:v1", d1),
			holds:   named("r.io/app:v1", d1),
			inUse:   []string{idOf(d1)},
			want:    Steps{Removals: []Removal{{Name: "r.io/app:v1", Digest: d1.String(), Since: since, InUse: true}}},
		},
		"a removal of what is not there is done": {
			desired: removes("r.io/app:v1", d1),
			want: Steps{
				Save:   []store.Entry{{Name: "r.io/app:v1", RemovedSince: &since}},
				Halves: refs("r.io/app@" + d1.String()),
			},
		},
		"a removal takes what came before a digest that never arrived": {
			desired: removes("r.io/app:v1", d2),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			holds:   named("r.io/app:v1", d1),
			want: Steps{Removals: []Removal{{
				Name: "r.io/app:v1", Digest: d2.String(), Since: since, Names: refs("r.io/app:v1", "r.io/app@"+d1.String()),
			}}},
		},
		"a removal leaves a tag that somebody else moved": {
			desired: removes("r.io/app:v1", d2),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			holds:   edited(named("r.io/app:v1", d3), func(h *runtime.Held) { h.Managed = false }),
			want: Steps{
				Save:   []store.Entry{{Name: "r.io/app:v1", RemovedSince: &since}},
				Halves: refs("r.io/app@" + d2.String()),
			},
		},
		"half of an image stays for another that is wished": {
			desired: also(removes("r.io/app:v1", d1), image("r.io/other:v1", d1)),
			want: Steps{
				Missing: []Image{{Ref: ref("r.io/other:v1"), Digest: d1, Pin: true}},
				Save:    []store.Entry{{Name: "r.io/app:v1", RemovedSince: &since}},
			},
		},
		"half of an image stays for another tag that may have its layers": {
			desired: also(removes("r.io/app:v1", d1), image("r.io/app:v2", d2)),
			want: Steps{
				Missing: []Image{{Ref: ref("r.io/app:v2"), Digest: d2, Pin: true}},
				Save:    []store.Entry{{Name: "r.io/app:v1", RemovedSince: &since}},
			},
		},
		"a removal that an attempt undid is done again": {
			desired: removes("r.io/app:v1", d1),
			ledger:  []store.Entry{{Name: "r.io/app:v1", RemovedSince: &since}},
			holds:   named("r.io/app:v1", d1),
			want: Steps{Removals: []Removal{{
				Name: "r.io/app:v1", Digest: d1.String(), Since: since, Names: refs("r.io/app@"+d1.String(), "r.io/app:v1"),
			}}},
		},
		"a removal that was done is not done again": {
			desired: removes("r.io/app:v1", d1),
			ledger:  []store.Entry{{Name: "r.io/app:v1", RemovedSince: &since}},
			holds:   edited(named("r.io/app:v1", d1), func(h *runtime.Held) { h.Managed = false }),
			want:    Steps{},
		},
		"while the wish is unknown only what is named goes": {
			desired: unknown(removes("r.io/app:v1", d1)),
			ledger:  []store.Entry{{Name: "r.io/old:v1", Digest: d2.String()}},
			holds:   union(named("r.io/app:v1", d1), named("r.io/old:v1", d2)),
			want: Steps{Removals: []Removal{{
				Name: "r.io/app:v1", Digest: d1.String(), Since: since, Names: refs("r.io/app@"+d1.String(), "r.io/app:v1"),
			}}},
		},
		"while the wish is unknown earlier digests stay": {
			desired: unknown(wants(image("r.io/app:v1", d2, keep(0)))),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			holds:   union(named("r.io/app:v1", d2), digestNamed("r.io/app", d1)),
			want: Steps{
				Cached: []Image{{Ref: ref("r.io/app:v1"), Digest: d2, Pin: true}},
				Save:   []store.Entry{{Name: "r.io/app:v1", Digest: d2.String(), Previous: []string{d1.String()}}},
			},
		},
		"what is neither wished nor to be removed is let go": {
			desired: wants(),
			ledger:  []store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}},
			holds:   union(named("r.io/app:v1", d1), edited(named("r.io/foreign:v1", d2), func(h *runtime.Held) { h.Managed = false })),
			want:    Steps{Release: refs("r.io/app@"+d1.String(), "r.io/app:v1"), Drop: []string{"r.io/app:v1"}},
		},
		"what is held for an unknown wish is brought too": {
			desired: store.Desired{Held: []v1alpha1.NodeImage{image("r.io/app:v1", d1)}},
			want:    Steps{Missing: []Image{{Ref: ref("r.io/app:v1"), Digest: d1, Pin: true}}},
		},
		"an entry that does not parse is passed over": {
			desired: wants(v1alpha1.NodeImage{Name: "not a name", Digest: d1.String()}, v1alpha1.NodeImage{Name: "r.io/app:v1", Digest: "none"}),
			want:    Steps{},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Next(Input{
				Desired: tc.desired, Ledger: ledgerOf(tc.ledger), Inventory: tc.holds, InUse: setOf(tc.inUse),
				Names: true, Pins: true, Untags: true,
			})
			if diff := cmp.Diff(tc.want, got, compare...); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWithoutUntag: where the runtime removes an image with all its names, a name that
// shares the image with a wished one stays, and counts as done.
func TestWithoutUntag(t *testing.T) {
	t.Parallel()
	holds := runtime.Inventory{
		ref("r.io/app:v1"): {Digest: d1, ID: idOf(d1), Complete: true},
		ref("r.io/app:v2"): {Digest: d1, ID: idOf(d1), Complete: true},
	}
	in := Input{Desired: also(removes("r.io/app:v1", d1), image("r.io/app:v2", d1)), Inventory: holds}
	got := Next(in)
	if len(got.Removals) != 0 || len(got.Save) != 2 || got.Save[1].RemovedSince == nil {
		t.Errorf("with a wished second name: removals %v, saves %v, want the removal to be done", got.Removals, got.Save)
	}
	in.Desired = removes("r.io/app:v1", d1)
	delete(holds, ref("r.io/app:v2"))
	if got := Next(in); len(got.Removals) != 1 || !slices.Equal(got.Removals[0].Names, refs("r.io/app:v1")) {
		t.Errorf("with one name: removals %v, want app:v1", got.Removals)
	}
}

// TestUseUnknown: while nobody can say what containers use nothing is removed.
func TestUseUnknown(t *testing.T) {
	t.Parallel()
	got := Next(Input{
		Desired:    also(removes("r.io/old:v1", d3), image("r.io/app:v1", d2, keep(0))),
		Ledger:     ledgerOf([]store.Entry{{Name: "r.io/app:v1", Digest: d1.String()}}),
		Inventory:  union(named("r.io/app:v1", d2), digestNamed("r.io/app", d1), named("r.io/old:v1", d3)),
		UseUnknown: true, Names: true, Pins: true, Untags: true,
	})
	want := Steps{
		Cached:   []Image{{Ref: ref("r.io/app:v1"), Digest: d2, Pin: true}},
		Removals: []Removal{{Name: "r.io/old:v1", Digest: d3.String(), Since: since}},
		Save:     []store.Entry{{Name: "r.io/app:v1", Digest: d2.String(), Previous: []string{d1.String()}}},
	}
	if diff := cmp.Diff(want, got, compare...); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// TestRemovalWaitsForTheAttempt: what is not there may come yet while an attempt is at it,
// with marks and without.
func TestRemovalWaitsForTheAttempt(t *testing.T) {
	t.Parallel()
	for _, marks := range []bool{true, false} {
		in := Input{
			Desired: removes("r.io/app:v1", d1), Running: map[string]bool{"r.io/app:v1": true},
			Names: marks, Pins: marks, Untags: marks,
		}
		want := Steps{Removals: []Removal{{Name: "r.io/app:v1", Digest: d1.String(), Since: since}}}
		if diff := cmp.Diff(want, Next(in), compare...); diff != "" {
			t.Errorf("marks %v, while the attempt runs (-want +got):\n%s", marks, diff)
		}
		in.Running = nil
		if got := Next(in); len(got.Removals) > 0 || len(got.Save) != 1 || got.Save[0].RemovedSince == nil {
			t.Errorf("marks %v, after the attempt: %+v, want the removal to be done", marks, got)
		}
	}
}

// TestTwoDigestsOfOneImage: the tag moved to another index with the same image for this
// platform. CRI does not say which of the two it is.
func TestTwoDigestsOfOneImage(t *testing.T) {
	t.Parallel()
	in := Input{Desired: wants(image("r.io/app:v1", d2)), Inventory: runtime.Inventory{
		ref("r.io/app:v1"):             {ID: "same", Complete: true},
		ref("r.io/app@" + d1.String()): {Digest: d1, ID: "same", Complete: true},
		ref("r.io/app@" + d2.String()): {Digest: d2, ID: "same", Complete: true},
	}}
	if got := Next(in); len(got.Cached) != 1 {
		t.Errorf("%+v, want the image to be cached", got)
	}
	in.Inventory[ref("r.io/app@"+d2.String())] = runtime.Held{Digest: d2, ID: "another", Complete: true}
	if got := Next(in); len(got.Missing) != 1 {
		t.Errorf("%+v, want the image to be missing: its digest is another image", got)
	}
}

var compare = cmp.Options{cmp.AllowUnexported(imageref.Reference{}), cmpopts.EquateEmpty()}

func digestOf(c byte) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(string(c), 64)) }

// idOf makes up the image id of a digest.
func idOf(d digest.Digest) string { return "id-" + d.Encoded()[:4] }

func ref(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(fmt.Sprintf("test reference %q: %s", s, err))
	}
	return r
}

func refs(names ...string) []imageref.Reference {
	var out []imageref.Reference
	for _, n := range names {
		out = append(out, ref(n))
	}
	return out
}

func image(name string, d digest.Digest, edits ...func(*v1alpha1.NodeImage)) v1alpha1.NodeImage {
	img := v1alpha1.NodeImage{Name: name, Digest: d.String()}
	for _, edit := range edits {
		edit(&img)
	}
	return img
}

func keep(n int32) func(*v1alpha1.NodeImage) {
	return func(i *v1alpha1.NodeImage) { i.KeepPrevious = &n }
}

func wants(images ...v1alpha1.NodeImage) store.Desired {
	return store.Desired{Known: true, Spec: v1alpha1.NodeImageCacheSpec{Images: images}}
}

func removes(name string, d digest.Digest) store.Desired {
	return store.Desired{Known: true, Spec: v1alpha1.NodeImageCacheSpec{
		Remove: []v1alpha1.RemoveImage{{Name: name, Digest: d.String(), Since: metav1.NewTime(since)}},
	}}
}

func also(d store.Desired, images ...v1alpha1.NodeImage) store.Desired {
	d.Spec.Images = images
	return d
}

func unknown(d store.Desired) store.Desired {
	d.Known = false
	return d
}

// named is what Ensure makes of an image.
func named(name string, d digest.Digest) runtime.Inventory {
	inv := runtime.Inventory{}
	for _, n := range runtime.NamesOf(ref(name), d) {
		inv[n] = runtime.Held{Digest: d, ID: idOf(d), Complete: true, Managed: true, Pinned: true}
	}
	return inv
}

func digestNamed(repository string, d digest.Digest) runtime.Inventory {
	return named(repository+"@"+d.String(), d)
}

func union(parts ...runtime.Inventory) runtime.Inventory {
	inv := runtime.Inventory{}
	for _, p := range parts {
		maps.Copy(inv, p)
	}
	return inv
}

func without(inv runtime.Inventory, name string) runtime.Inventory {
	delete(inv, ref(name))
	return inv
}

func edited(inv runtime.Inventory, edit func(*runtime.Held)) runtime.Inventory {
	for k, v := range inv {
		edit(&v)
		inv[k] = v
	}
	return inv
}

func ledgerOf(entries []store.Entry) map[string]store.Entry {
	m := map[string]store.Entry{}
	for _, e := range entries {
		m[e.Name] = e
	}
	return m
}

func setOf(ids []string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, id := range ids {
		m[id] = struct{}{}
	}
	return m
}
