package nodes

import (
	"encoding/json"
	"fmt"
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
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/credentials"
)

var (
	d1, d2 = digestOf('1'), digestOf('2')
	now    = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	then   = metav1.NewTime(now.Add(-time.Hour))
)

// known is a table of digests; owners in strangers were refused every image, those in
// waiting not answered yet.
type known struct {
	targets            map[string]digest.Digest
	strangers, waiting []wish.Owner
}

func (k known) Target(r imageref.Reference) digest.Digest { return k.targets[r.String()] }
func (k known) Admits(_ imageref.Reference, o wish.Owner) bool {
	return !slices.Contains(k.strangers, o) && !slices.Contains(k.waiting, o)
}

func (k known) Refuses(_ imageref.Reference, o wish.Owner) bool {
	return slices.Contains(k.strangers, o)
}

func TestPlan(t *testing.T) {
	t.Parallel()
	const app = "r.io/app:v1"
	wantsApp := []wish.Image{wished(app, "ns/a")}
	resolved := known{targets: map[string]digest.Digest{app: d1}}
	tests := map[string]struct {
		object  v1alpha1.NodeImageCache
		wish    []wish.Image
		targets known
		gaveUp  []wish.Owner
		strayed []wish.Owner
		holding []wish.Owner // in their rollouts
		want    v1alpha1.NodeImageCacheSpec
	}{
		"a wished image with its digest and size": {
			wish: wantsApp, targets: resolved,
			want: spec("uid", entry(app, d1, "ns/a")),
		},
		"nothing wished and nobody to tell": {want: v1alpha1.NodeImageCacheSpec{}},
		"nothing wished, an agent is there": {
			object: object(0, status(1)),
			want:   spec("uid"),
		},
		"an image without digest waits, and the wish is not complete": {
			wish: append(wantsApp, wished("r.io/new:v1", "ns/a")), targets: resolved,
			want: spec("", entry(app, d1, "ns/a")),
		},
		"the wish stays complete once it was": {
			object: object(1, status(1), func(o *v1alpha1.NodeImageCache) { o.Spec.NodeUID = "uid" }),
			wish:   []wish.Image{wished("r.io/new:v1", "ns/a")},
			want:   spec("uid"),
		},
		"a digest that is lost from memory is not taken away": {
			object: holding(entry(app, d1, "ns/a")), wish: wantsApp,
			want: spec("uid", entry(app, d1, "ns/a")),
		},
		"a new digest replaces the old one, its size too": {
			object: holding(func() v1alpha1.NodeImage { e := entry(app, d2, "ns/a"); e.Size = 7; return e }()), wish: wantsApp, targets: resolved,
			want: spec("uid", entry(app, d1, "ns/a")),
		},
		"a size that was written is not written again": {
			object: holding(func() v1alpha1.NodeImage { e := entry(app, d1, "ns/a"); e.Size = 7; return e }()), wish: wantsApp, targets: resolved,
			want: spec("uid", func() v1alpha1.NodeImage { e := entry(app, d1, "ns/a"); e.Size = 7; return e }()),
		},
		"policies other than the defaults are written": {
			wish:    []wish.Image{{Ref: ref(app), Pin: v1alpha1.PinNever, KeepPrevious: 3, Priority: 9, Owners: []wish.Owner{"ns/a"}}},
			targets: resolved,
			want: spec("uid", func() v1alpha1.NodeImage {
				e := entry(app, d1, "ns/a")
				e.Pin, e.KeepPrevious, e.Priority = v1alpha1.PinNever, new(int32(3)), 9
				return e
			}()),
		},
		"a suspended cache's image stays at its digest": {
			wish: []wish.Image{func() wish.Image { w := wished(app, "ns/a"); w.Held = d2; return w }()}, targets: resolved,
			want: spec("uid", entry(app, d2, "ns/a")),
		},
		"an owner without the right does not count": {
			wish: []wish.Image{wished(app, "ns/a", "other/b")}, targets: known{targets: resolved.targets, strangers: []wish.Owner{"other/b"}},
			want: spec("uid", entry(app, d1, "ns/a")),
		},
		"an image that only strangers ask for does not come": {
			wish: []wish.Image{wished(app, "other/b")}, targets: known{targets: resolved.targets, strangers: []wish.Owner{"other/b"}},
			want: spec(""),
		},
		"a stranger does not keep what an owner gave up": {
			object: holding(entry(app, d1, "ns/a")), gaveUp: []wish.Owner{"ns/a"},
			wish: []wish.Image{wished(app, "other/b")}, targets: known{targets: resolved.targets, strangers: []wish.Owner{"other/b"}},
			want: removing(spec("uid"), app, d1, metav1.NewTime(now)),
		},
		"a stranger does not stop a removal": {
			object: object(5, removal(app, d1), status(4)),
			wish:   []wish.Image{wished(app, "other/b")}, targets: known{targets: resolved.targets, strangers: []wish.Owner{"other/b"}},
			want: removing(spec("uid"), app, d1, then),
		},
		"who waits for an answer keeps what an owner gave up": {
			object: holding(entry(app, d1, "ns/a")), gaveUp: []wish.Owner{"ns/a"},
			wish: []wish.Image{wished(app, "ns/renamed")}, targets: known{targets: resolved.targets, waiting: []wish.Owner{"ns/renamed"}},
			want: spec("uid", entry(app, d1, "ns/renamed")),
		},
		"who waits for an answer stops a removal": {
			object: object(5, removal(app, d1), status(4)),
			wish:   []wish.Image{wished(app, "ns/b")}, targets: known{targets: resolved.targets, waiting: []wish.Owner{"ns/b"}},
			want: spec("uid"),
		},
		"what an owner gave up is removed": {
			object: holding(entry(app, d1, "ns/a")), gaveUp: []wish.Owner{"ns/a"},
			want: removing(spec("uid"), app, d1, metav1.NewTime(now)),
		},
		"what an owner gave up stays while what it asks for instead is not found": {
			object: holding(entry("r.io/app:v0", d2, "ns/a")), gaveUp: []wish.Owner{"ns/a"},
			wish: wantsApp,
			want: spec("uid", entry("r.io/app:v0", d2, "ns/a")),
		},
		"what an owner gave up stays while what it asks for instead is refused": {
			object: holding(entry("r.io/app:v0", d2, "ns/a")), gaveUp: []wish.Owner{"ns/a"},
			wish: wantsApp, targets: known{targets: resolved.targets, strangers: []wish.Owner{"ns/a"}},
			want: spec("uid", entry("r.io/app:v0", d2, "ns/a")),
		},
		"what an owner gave up stays until its rollout lets the node in": {
			object: holding(entry("r.io/app:v0", d2, "ns/a")), gaveUp: []wish.Owner{"ns/a"},
			wish: wantsApp, targets: resolved, holding: []wish.Owner{"ns/a"},
			want: spec("uid", entry("r.io/app:v0", d2, "ns/a")),
		},
		"what an owner gave up is removed as what it asks for instead comes": {
			object: holding(entry("r.io/app:v0", d2, "ns/a")), gaveUp: []wish.Owner{"ns/a"},
			wish: wantsApp, targets: resolved,
			want: removing(spec("uid", entry(app, d1, "ns/a")), "r.io/app:v0", d2, metav1.NewTime(now)),
		},
		"what another owner waits for keeps nothing": {
			object: holding(entry("r.io/app:v0", d2, "ns/a")), gaveUp: []wish.Owner{"ns/a", "ns/b"},
			wish: []wish.Image{wished(app, "ns/b")},
			want: removing(spec("uid"), "r.io/app:v0", d2, metav1.NewTime(now)),
		},
		"what a node strayed from leaves after the grace": {
			object: holding(entry(app, d1, "ns/a", "ns/b")), gaveUp: []wish.Owner{"ns/a", "ns/b"}, strayed: []wish.Owner{"ns/a"},
			want: spec("uid", leavingAt(entry(app, d1, "ns/a"), now.Add(time.Hour))),
		},
		"the grace is not begun again": {
			object: holding(leavingAt(entry(app, d1, "ns/a"), now.Add(time.Minute))), gaveUp: []wish.Owner{"ns/a"}, strayed: []wish.Owner{"ns/a"},
			want: spec("uid", leavingAt(entry(app, d1, "ns/a"), now.Add(time.Minute))),
		},
		"when the grace is over the image is removed": {
			object: holding(leavingAt(entry(app, d1, "ns/a"), now)), gaveUp: []wish.Owner{"ns/a"}, strayed: []wish.Owner{"ns/a"},
			want: removing(spec("uid"), app, d1, metav1.NewTime(now)),
		},
		"a node that matches again keeps the image": {
			object: holding(leavingAt(entry(app, d1, "ns/a"), now.Add(time.Minute))), wish: wantsApp, targets: resolved,
			want: spec("uid", entry(app, d1, "ns/a")),
		},
		"a rollout holds the old digest": {
			object: holding(entry(app, d2, "ns/a")), wish: wantsApp, targets: resolved, holding: []wish.Owner{"ns/a"},
			want: spec("uid", entry(app, d2, "ns/a")),
		},
		"a rollout holds what is new, and the wish is not complete": {
			wish: wantsApp, targets: resolved, holding: []wish.Owner{"ns/a"},
			want: spec(""),
		},
		"an owner that does not wait brings it": {
			object: holding(entry(app, d2, "ns/a")), wish: []wish.Image{wished(app, "ns/a", "ns/b")}, targets: resolved, holding: []wish.Owner{"ns/a"},
			want: spec("uid", entry(app, d1, "ns/a", "ns/b")),
		},
		"what a deleted owner left is let go": {
			object: holding(entry(app, d1, "ns/a")),
			want:   spec("uid"),
		},
		"what the runtime no longer makes sandboxes of is let go": {
			object: holding(entry(app, d1, v1alpha1.OwnerSandboxImage)),
			want:   spec("uid"),
		},
		"what it does stays when an ImageCache gave it up": {
			object: holding(entry(app, d1, "ns/a", v1alpha1.OwnerSandboxImage)), gaveUp: []wish.Owner{"ns/a"},
			wish: []wish.Image{wished(app, v1alpha1.OwnerSandboxImage)}, targets: resolved,
			want: spec("uid", entry(app, d1, v1alpha1.OwnerSandboxImage)),
		},
		"one that gave up beside one that was deleted removes": {
			object: holding(entry(app, d1, "ns/a", "ns/b")), gaveUp: []wish.Owner{"ns/b"},
			want: removing(spec("uid"), app, d1, metav1.NewTime(now)),
		},
		"a removal stays until the agent saw it": {
			object: object(5, removal(app, d1), status(4)),
			want:   removing(spec("uid"), app, d1, then),
		},
		"a removal stays while the agent is at it": {
			object: object(5, removal(app, d1), status(5, v1alpha1.NodeImageStatus{Name: app, Digest: d1.String(), Phase: v1alpha1.PhaseRemoving})),
			want:   removing(spec("uid"), app, d1, then),
		},
		"a removal leaves when the agent reports it gone": {
			object: object(5, removal(app, d1), status(5)),
			want:   spec("uid"),
		},
		"a removal leaves when the image is wished again": {
			object: object(5, removal(app, d1), status(4)), wish: wantsApp, targets: resolved,
			want: spec("uid", entry(app, d1, "ns/a")),
		},
		"a removal is not started twice": {
			object: func() v1alpha1.NodeImageCache {
				o := object(5, removal(app, d1), status(4))
				o.Spec.Images = []v1alpha1.NodeImage{entry(app, d1, "ns/a")}
				return o
			}(),
			gaveUp: []wish.Owner{"ns/a"},
			want:   removing(spec("uid"), app, d1, then),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := plan(planInput{
				nodeUID: "uid", object: &tc.object, wish: tc.wish, targets: tc.targets,
				size:    func(digest.Digest) int64 { return 100 },
				gaveUp:  func(o wish.Owner) bool { return slices.Contains(tc.gaveUp, o) },
				strayed: func(o wish.Owner, _ imageref.Reference) bool { return slices.Contains(tc.strayed, o) },
				grace:   time.Hour,
				holds: func(o wish.Owner, _ imageref.Reference, _ digest.Digest) bool {
					return slices.Contains(tc.holding, o)
				},
				sealer: noSealing(),
				now:    now,
			})
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPlanIsStable: planning again on what was planned changes nothing.
func TestPlanIsStable(t *testing.T) {
	t.Parallel()
	in := planInput{
		nodeUID: "uid", now: now,
		object:  &v1alpha1.NodeImageCache{Spec: v1alpha1.NodeImageCacheSpec{Images: []v1alpha1.NodeImage{entry("r.io/old:v1", d1, "ns/b"), entry("r.io/older:v1", d1, "ns/a")}}},
		targets: known{targets: map[string]digest.Digest{"r.io/app:v1": d1, "r.io/db:v1": d2}},
		wish:    []wish.Image{wished("r.io/db:v1", "ns/a"), wished("r.io/app:v1", "ns/a", "ns/b"), wished("r.io/none:v1", "ns/a")},
		size:    func(digest.Digest) int64 { return 100 },
		gaveUp:  func(wish.Owner) bool { return true },
		strayed: nobody, holds: noGate, sealer: noSealing(),
	}
	first := plan(in)
	in.object = &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: first}
	in.now = now.Add(time.Hour)
	if diff := cmp.Diff(first, plan(in)); diff != "" {
		t.Errorf("second plan (-first +second):\n%s", diff)
	}
}

// TestTheLimitRemovesNothing: an image that finds no place is let go, not removed.
func TestTheLimitRemovesNothing(t *testing.T) {
	t.Parallel()
	targets := known{targets: map[string]digest.Digest{"r.io/low:v1": d1}}
	images := []wish.Image{wished("r.io/low:v1", "ns/low")}
	for i := range MaxImages {
		w := wished(fmt.Sprintf("r.io/app:v%d", i), "ns/high")
		w.Priority = 1
		targets.targets[w.Ref.String()] = d1
		images = append(images, w)
	}
	object := holding(entry("r.io/low:v1", d1, "ns/low"))
	got := plan(planInput{
		nodeUID: "uid", object: &object, wish: images, targets: targets, now: now,
		size: func(digest.Digest) int64 { return 100 }, gaveUp: func(wish.Owner) bool { return true }, strayed: nobody, holds: noGate, sealer: noSealing(),
	})
	if len(got.Images) != MaxImages || len(got.Remove) != 0 {
		t.Errorf("%d images, removals %v", len(got.Images), got.Remove)
	}
}

func TestRemovalsAreBounded(t *testing.T) {
	t.Parallel()
	var o v1alpha1.NodeImageCache
	for i := range maxRemove + 10 {
		o.Spec.Remove = append(o.Spec.Remove, v1alpha1.RemoveImage{
			Name: fmt.Sprintf("r.io/app:v%04d", i), Digest: d1.String(), Since: metav1.NewTime(now.Add(time.Duration(i) * time.Second)),
		})
	}
	o.Generation = 1
	got := plan(planInput{nodeUID: "uid", object: &o, targets: known{}, sealer: noSealing(), now: now}).Remove
	if len(got) != maxRemove || got[0].Name != "r.io/app:v0010" {
		t.Errorf("%d removals from %s, want the newest %d", len(got), got[0].Name, maxRemove)
	}
}

// TestHoldersAreNamedFirst: a suspended cache holds an image only where it is named.
func TestHoldersAreNamedFirst(t *testing.T) {
	t.Parallel()
	var owners []wish.Owner
	for i := range maxOwners + 4 {
		owners = append(owners, wish.Owner(fmt.Sprintf("ns/%02d", i)))
	}
	last := owners[len(owners)-1:]
	named := name(owners, last)
	if len(named) != maxOwners || !slices.Contains(named, string(last[0])) || !slices.IsSorted(named) {
		t.Errorf("named %v, want %d with %s", named, maxOwners, last[0])
	}
	big := spec("uid")
	var wished []wish.Image
	for i := range MaxImages {
		e := entry(fmt.Sprintf("r.io/app:v%d", i), d1, named...)
		e.Owners = append([]string{strings.Repeat("x", 300)}, e.Owners...)
		big.Images = append(big.Images, e)
		wished = append(wished, wish.Image{Ref: ref(e.Name), Holders: last})
	}
	if got := fit(big, wished).Images[7].Owners; !slices.Equal(got, []string{string(last[0])}) {
		t.Errorf("owners after fitting: %v, want the holder", got)
	}
}

// TestSpecSize: 1,000 images with the longest names and many owners stay within the share.
func TestSpecSize(t *testing.T) {
	t.Parallel()
	var images []wish.Image
	targets := known{targets: map[string]digest.Digest{}}
	var owners []wish.Owner
	for i := range 20 {
		owners = append(owners, wish.Owner(fmt.Sprintf("%s/%0253d", strings.Repeat("n", 63), i)))
	}
	for i := range MaxImages + 50 {
		name := fmt.Sprintf("r.io/%0247d:v1", i)
		images = append(images, wished(name, owners...))
		targets.targets[ref(name).String()] = d1
	}
	got := plan(planInput{
		nodeUID: "uid", object: &v1alpha1.NodeImageCache{}, wish: images, targets: targets,
		size: func(digest.Digest) int64 { return 1 << 40 }, gaveUp: func(wish.Owner) bool { return false }, strayed: nobody, holds: noGate, sealer: noSealing(), now: now,
	})
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Images) != MaxImages || len(b) > maxSpecBytes {
		t.Errorf("%d images in %d bytes, want %d in at most %d", len(got.Images), len(b), MaxImages, maxSpecBytes)
	}
}

func TestNextLeave(t *testing.T) {
	t.Parallel()
	s := spec("uid", entry("r.io/a:v1", d1), leavingAt(entry("r.io/b:v1", d1), now.Add(time.Hour)), leavingAt(entry("r.io/c:v1", d1), now.Add(time.Minute)))
	if got := nextLeave(&s, now); got != time.Minute {
		t.Errorf("next leave in %s, want 1m", got)
	}
	if got := nextLeave(&s, now.Add(2*time.Hour)); got != time.Millisecond {
		t.Errorf("an overdue one leaves in %s, want at once", got)
	}
	if got := nextLeave(&v1alpha1.NodeImageCacheSpec{}, now); got != 0 {
		t.Errorf("nothing leaves in %s", got)
	}
}

func noSealing() *sealer { return &sealer{find: credentials.NewVault()} }

func noGate(wish.Owner, imageref.Reference, digest.Digest) bool { return false }

func nobody(wish.Owner, imageref.Reference) bool { return false }

func leavingAt(e v1alpha1.NodeImage, at time.Time) v1alpha1.NodeImage {
	e.LeavesAt = new(metav1.NewTime(at))
	return e
}

func digestOf(c byte) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(string(c), 64)) }

func ref(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

func wished(name string, owners ...wish.Owner) wish.Image {
	return wish.Image{Ref: ref(name), Pin: v1alpha1.PinAlways, KeepPrevious: wish.DefaultKeepPrevious, Owners: owners}
}

func entry(name string, d digest.Digest, owners ...string) v1alpha1.NodeImage {
	return v1alpha1.NodeImage{Name: name, Digest: d.String(), Size: 100, Owners: owners}
}

func spec(nodeUID string, images ...v1alpha1.NodeImage) v1alpha1.NodeImageCacheSpec {
	return v1alpha1.NodeImageCacheSpec{NodeUID: nodeUID, Images: images}
}

func removing(s v1alpha1.NodeImageCacheSpec, name string, d digest.Digest, since metav1.Time) v1alpha1.NodeImageCacheSpec {
	s.Remove = append(s.Remove, v1alpha1.RemoveImage{Name: name, Digest: d.String(), Since: since})
	return s
}

func object(generation int64, edits ...func(*v1alpha1.NodeImageCache)) v1alpha1.NodeImageCache {
	o := v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Generation: generation}}
	for _, edit := range edits {
		edit(&o)
	}
	return o
}

func holding(images ...v1alpha1.NodeImage) v1alpha1.NodeImageCache {
	return object(1, func(o *v1alpha1.NodeImageCache) { o.Spec = spec("uid", images...) })
}

func removal(name string, d digest.Digest) func(*v1alpha1.NodeImageCache) {
	return func(o *v1alpha1.NodeImageCache) { o.Spec = removing(spec("uid"), name, d, then) }
}

func status(generation int64, images ...v1alpha1.NodeImageStatus) func(*v1alpha1.NodeImageCache) {
	return func(o *v1alpha1.NodeImageCache) {
		o.Status = v1alpha1.NodeImageCacheStatus{ObservedGeneration: generation, Images: images}
	}
}
