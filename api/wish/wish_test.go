package wish

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestFor(t *testing.T) {
	t.Parallel()
	lisbon := node("n1", map[string]string{"site": "lisbon"})
	tests := map[string]struct {
		node    *corev1.Node
		caches  []*v1alpha1.ImageCache
		current []v1alpha1.NodeImage
		want    []Image
	}{
		"no selector selects every Linux node": {
			node:   lisbon,
			caches: []*v1alpha1.ImageCache{cache("a", images("app:v1"))},
			want:   []Image{image("app:v1", "ns/a")},
		},
		"every label must match": {
			node: lisbon,
			caches: []*v1alpha1.ImageCache{
				cache("a", images("app:v1", "site", "lisbon")),
				cache("b", images("app:v2", "site", "porto")),
				cache("c", images("app:v3", "site", "lisbon", "tier", "pos")),
			},
			want: []Image{image("app:v1", "ns/a")},
		},
		"affinity is ANDed with labels": {
			node: lisbon,
			caches: []*v1alpha1.ImageCache{
				cache("a", affine(images("app:v1", "site", "lisbon"), "site", "lisbon", "porto")),
				cache("b", affine(images("app:v2", "site", "lisbon"), "site", "porto")),
			},
			want: []Image{image("app:v1", "ns/a")},
		},
		"affinity without terms is no affinity": {
			node:   lisbon,
			caches: []*v1alpha1.ImageCache{cache("a", v1alpha1.CacheSpecImages{Images: []v1alpha1.ImageReference{"app:v1"}, NodeAffinity: &corev1.NodeSelector{}})},
			want:   []Image{image("app:v1", "ns/a")},
		},
		"one image in several lists and spellings stands once": {
			node:   lisbon,
			caches: []*v1alpha1.ImageCache{cache("a", images("app:v1"), images("docker.io/library/app:v1", "site", "lisbon"))},
			want:   []Image{image("app:v1", "ns/a")},
		},
		"the strongest policy wins": {
			node: lisbon,
			caches: []*v1alpha1.ImageCache{
				with(cache("a", images("app:v1")), func(s *v1alpha1.ImageCacheSpec) {
					s.Pin, s.KeepPrevious, s.Priority = v1alpha1.PinNever, new(int32(3)), -5
				}),
				with(cache("b", images("app:v1")), func(s *v1alpha1.ImageCacheSpec) { s.KeepPrevious, s.Priority = new(int32(0)), 7 }),
			},
			want: []Image{{Ref: ref("app:v1"), Pin: v1alpha1.PinAlways, KeepPrevious: 3, Priority: 7, Owners: []Owner{"ns/a", "ns/b"}}},
		},
		"a suspended cache holds what the node has, at its digest and policy": {
			node:   lisbon,
			caches: []*v1alpha1.ImageCache{with(cache("a", images("app:v2")), suspend)},
			current: []v1alpha1.NodeImage{
				{Name: "docker.io/library/app:v1", Digest: digestA, Pin: v1alpha1.PinNever, Owners: []string{"ns/a"}},
				{Name: "docker.io/library/other:v1", Digest: digestB, Owners: []string{"ns/b"}},
			},
			want: []Image{{Ref: ref("app:v1"), Pin: v1alpha1.PinNever, KeepPrevious: 1, Owners: []Owner{"ns/a"}, Holders: []Owner{"ns/a"}, Held: digestA}},
		},
		"a suspended cache does not hold back another one": {
			node:    lisbon,
			caches:  []*v1alpha1.ImageCache{with(cache("a", images("app:v1")), suspend), cache("b", images("app:v1"))},
			current: []v1alpha1.NodeImage{{Name: "docker.io/library/app:v1", Digest: digestA, Owners: []string{"ns/a", "ns/b"}}},
			want:    []Image{func() Image { i := image("app:v1", "ns/a", "ns/b"); i.Holders = []Owner{"ns/a"}; return i }()},
		},
		"who has nodes resolve the image is named": {
			node: lisbon,
			caches: []*v1alpha1.ImageCache{
				with(cache("a", images("app:v1")), byNode), cache("b", images("app:v1")), with(cache("c", images("app:v1")), byNode, suspend),
			},
			current: []v1alpha1.NodeImage{{Name: "docker.io/library/app:v1", Digest: digestA, Owners: []string{"ns/c"}}},
			want: []Image{func() Image {
				i := image("app:v1", "ns/a", "ns/b", "ns/c")
				i.ByNode, i.Holders = []Owner{"ns/a"}, []Owner{"ns/c"}
				return i
			}()},
		},
		"a suspended cache holds nothing where no digest was found yet": {
			node:    lisbon,
			caches:  []*v1alpha1.ImageCache{with(cache("a", images("app:v1")), byNode, suspend)},
			current: []v1alpha1.NodeImage{{Name: "docker.io/library/app:v1", Resolve: v1alpha1.ResolveNode, Owners: []string{"ns/a"}}},
			want:    nil,
		},
		"purged and deleted caches ask for nothing": {
			node: lisbon,
			caches: []*v1alpha1.ImageCache{
				with(cache("a", images("app:v1")), func(s *v1alpha1.ImageCacheSpec) { s.State = v1alpha1.StatePurged }),
				deleted(cache("b", images("app:v2"))),
			},
			want: nil,
		},
		"a Windows node holds nothing": {
			node:   windows(node("w", nil)),
			caches: []*v1alpha1.ImageCache{cache("a", images("app:v1"))},
			want:   nil,
		},
		"a virtual node holds nothing": {
			node:   node("v", map[string]string{"type": "virtual-kubelet"}),
			caches: []*v1alpha1.ImageCache{cache("a", images("app:v1"))},
			want:   nil,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := For(tc.node, compileAll(t, tc.caches), tc.current)
			if diff := cmp.Diff(tc.want, got, compare...); diff != "" {
				t.Errorf("wish (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSandbox: the runtime's wish is the strongest, beside ImageCaches and without them.
func TestSandbox(t *testing.T) {
	t.Parallel()
	never := with(cache("a", images("pause:3")), func(s *v1alpha1.ImageCacheSpec) {
		s.Pin, s.KeepPrevious, s.Priority = v1alpha1.PinNever, new(int32(0)), 1000
	})
	alone := image("pause:3", v1alpha1.OwnerSandboxImage)
	alone.Priority = SandboxPriority
	both := alone
	both.Owners = []Owner{"ns/a", v1alpha1.OwnerSandboxImage}
	for name, tc := range map[string]struct {
		caches []*v1alpha1.ImageCache
		node   *corev1.Node
		want   []Image
	}{
		"alone":                   {nil, node("n", nil), []Image{alone}},
		"beside an ImageCache":    {[]*v1alpha1.ImageCache{never}, node("n", nil), []Image{both}},
		"not on what is no Linux": {nil, windows(node("n", nil)), nil},
	} {
		got := For(tc.node, append(compileAll(t, tc.caches), Sandbox(ref("pause:3"))), nil)
		if diff := cmp.Diff(tc.want, got, compare...); diff != "" {
			t.Errorf("%s: wish (-want +got):\n%s", name, diff)
		}
	}
}

func TestCompileReportsFields(t *testing.T) {
	t.Parallel()
	bad := cache("a", images("app:v1"), images("App:v1"), affine(images("db:v1"), "site"))
	c, errs := Compile(bad)
	var got []string
	for _, e := range errs {
		got = append(got, e.Field)
	}
	want := []string{"spec.cacheSpec[1].images[0]", "spec.cacheSpec[2].nodeAffinity"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if got := c.On(node("n", nil)); !slices.Equal(got, []imageref.Reference{ref("app:v1")}) {
		t.Errorf("usable images = %v, want app:v1 only", got)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	all := []Image{{Ref: ref("a")}, {Ref: ref("b"), Priority: 5}, {Ref: ref("c")}, {Ref: ref("d"), Priority: -1}}
	kept, left := Limit(all, 2)
	if diff := cmp.Diff([]Image{all[0], all[1]}, kept, compare...); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Image{all[2], all[3]}, left, compare...); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if kept, left := Limit(all, 4); len(kept) != 4 || left != nil {
		t.Errorf("Limit at the length = %d kept, %v left", len(kept), left)
	}
}

// TestProperties checks the invariants of the package on random fleets.
func TestProperties(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		n := randomNode(rng)
		all := randomCaches(rng)
		current := randomCurrent(rng)
		compiled := compileAll(t, all)
		got := For(n, compiled, current)
		checkShape(t, seed, got)
		checkOrder(t, seed, rng, n, compiled, current, got)
		checkMonotone(t, seed, n, compiled, current)
		checkSelected(t, seed, n, compiled, current, got)
	}
}

func checkShape(t *testing.T, seed uint64, got []Image) {
	t.Helper()
	if !slices.IsSortedFunc(got, byRef) {
		t.Errorf("seed %d: not sorted: %v", seed, got)
	}
	for i, img := range got {
		if i > 0 && img.Ref == got[i-1].Ref {
			t.Errorf("seed %d: %v stands twice", seed, img.Ref)
		}
		if len(img.Owners) == 0 || !slices.IsSorted(img.Owners) {
			t.Errorf("seed %d: owners of %v = %v", seed, img.Ref, img.Owners)
		}
		for _, o := range img.ByNode {
			if !slices.Contains(img.Owners, o) || img.Held != "" {
				t.Errorf("seed %d: %v has nodes resolve %v, of the owners %v, held at %q", seed, o, img.Ref, img.Owners, img.Held)
			}
		}
	}
}

func checkOrder(t *testing.T, seed uint64, rng *rand.Rand, n *corev1.Node, caches []*Cache, current []v1alpha1.NodeImage, want []Image) {
	t.Helper()
	shuffled := slices.Clone(caches)
	rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if diff := cmp.Diff(want, For(n, shuffled, current), compare...); diff != "" {
		t.Errorf("seed %d: order of caches matters:\n%s", seed, diff)
	}
}

func checkMonotone(t *testing.T, seed uint64, n *corev1.Node, caches []*Cache, current []v1alpha1.NodeImage) {
	t.Helper()
	for k := range caches {
		more := byReference(For(n, caches[:k+1], current))
		for _, before := range For(n, caches[:k], current) {
			after, ok := more[before.Ref]
			switch {
			case !ok:
				t.Errorf("seed %d: cache %d takes %v away", seed, k, before.Ref)
			case slices.ContainsFunc(before.ByNode, func(o Owner) bool { return !slices.Contains(after.ByNode, o) }):
				t.Errorf("seed %d: cache %d has nodes of %v resolve %v no more", seed, k, before.ByNode, before.Ref)
			case after.KeepPrevious < before.KeepPrevious, after.Priority < before.Priority,
				before.Pin == v1alpha1.PinAlways && after.Pin != v1alpha1.PinAlways:
				t.Errorf("seed %d: cache %d weakens %+v to %+v", seed, k, before, after)
			}
		}
	}
}

// checkSelected compares with a plain restatement of who asks for what.
func checkSelected(t *testing.T, seed uint64, n *corev1.Node, caches []*Cache, current []v1alpha1.NodeImage, got []Image) {
	t.Helper()
	want := map[imageref.Reference]bool{}
	for _, c := range caches {
		switch c.State() {
		case v1alpha1.StateCached:
			for _, r := range c.On(n) {
				want[r] = true
			}
		case v1alpha1.StateSuspended:
			for _, img := range current {
				if slices.Contains(img.Owners, string(c.Owner())) {
					want[ref(img.Name)] = true
				}
			}
		}
	}
	if len(want) != len(got) {
		t.Errorf("seed %d: %d images, want %d", seed, len(got), len(want))
	}
	for _, img := range got {
		if !want[img.Ref] {
			t.Errorf("seed %d: nobody asked for %v", seed, img.Ref)
		}
		for _, c := range caches {
			resolves := c.ByNode() && c.State() == v1alpha1.StateCached && slices.Contains(c.On(n), img.Ref)
			if resolves != slices.Contains(img.ByNode, c.Owner()) {
				t.Errorf("seed %d: %v has nodes of %v resolve %v: want %v", seed, c.Owner(), img.ByNode, img.Ref, resolves)
			}
		}
	}
}

func byReference(images []Image) map[imageref.Reference]Image {
	m := map[imageref.Reference]Image{}
	for _, img := range images {
		m[img.Ref] = img
	}
	return m
}

func randomNode(rng *rand.Rand) *corev1.Node {
	return node("n", map[string]string{"site": pick(rng, "lisbon", "porto"), "tier": pick(rng, "pos", "cam")})
}

func randomCaches(rng *rand.Rand) []*v1alpha1.ImageCache {
	var out []*v1alpha1.ImageCache
	for i := range 1 + rng.IntN(6) {
		var lists []v1alpha1.CacheSpecImages
		for range 1 + rng.IntN(3) {
			l := v1alpha1.CacheSpecImages{Images: []v1alpha1.ImageReference{randomImage(rng), randomImage(rng)}}
			if rng.IntN(2) == 0 {
				l.NodeSelector = map[string]v1alpha1.LabelValue{"site": v1alpha1.LabelValue(pick(rng, "lisbon", "porto"))}
			}
			if rng.IntN(3) == 0 {
				l = affine(l, "tier", pick(rng, "pos", "cam"))
			}
			lists = append(lists, l)
		}
		out = append(out, with(cache(fmt.Sprintf("c%d", i), lists...), func(s *v1alpha1.ImageCacheSpec) {
			s.State = v1alpha1.CacheState(pick(rng, "", "Cached", "Suspended", "Purged"))
			s.Pin = v1alpha1.PinMode(pick(rng, "", "Always", "Never"))
			s.Resolve = v1alpha1.ResolveMode(pick(rng, "", "Controller", "Node"))
			s.Priority = rng.Int32N(10)
			if rng.IntN(2) == 0 {
				s.KeepPrevious = new(rng.Int32N(4))
			}
		}))
	}
	return out
}

func randomCurrent(rng *rand.Rand) []v1alpha1.NodeImage {
	var out []v1alpha1.NodeImage
	for i := range 5 {
		out = append(out, v1alpha1.NodeImage{
			Name: fmt.Sprintf("docker.io/library/img%d:v1", i), Digest: pick(rng, digestA, digestB),
			Owners: []string{fmt.Sprintf("ns/c%d", rng.IntN(6))},
		})
	}
	return out
}

func randomImage(rng *rand.Rand) v1alpha1.ImageReference {
	return v1alpha1.ImageReference(fmt.Sprintf("%simg%d:v1", pick(rng, "", "docker.io/library/"), rng.IntN(8)))
}

func pick(rng *rand.Rand, from ...string) string { return from[rng.IntN(len(from))] }

var compare = cmp.Options{cmp.AllowUnexported(imageref.Reference{}), cmpopts.EquateEmpty()}

func compileAll(t *testing.T, ics []*v1alpha1.ImageCache) []*Cache {
	t.Helper()
	var out []*Cache
	for _, ic := range ics {
		c, errs := Compile(ic)
		if len(errs) > 0 {
			t.Fatal(errs.ToAggregate())
		}
		out = append(out, c)
	}
	return out
}

func node(name string, labels map[string]string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	n.Status.NodeInfo.OperatingSystem = "linux"
	return n
}

func windows(n *corev1.Node) *corev1.Node {
	n.Status.NodeInfo.OperatingSystem = "windows"
	return n
}

func cache(name string, lists ...v1alpha1.CacheSpecImages) *v1alpha1.ImageCache {
	return &v1alpha1.ImageCache{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       v1alpha1.ImageCacheSpec{CacheSpec: lists},
	}
}

func with(ic *v1alpha1.ImageCache, edits ...func(*v1alpha1.ImageCacheSpec)) *v1alpha1.ImageCache {
	for _, edit := range edits {
		edit(&ic.Spec)
	}
	return ic
}

func suspend(s *v1alpha1.ImageCacheSpec) { s.State = v1alpha1.StateSuspended }

func byNode(s *v1alpha1.ImageCacheSpec) { s.Resolve = v1alpha1.ResolveNode }

func deleted(ic *v1alpha1.ImageCache) *v1alpha1.ImageCache {
	ic.DeletionTimestamp = new(metav1.Now())
	return ic
}

// images builds a list from one reference and pairs of label and value.
func images(reference string, pairs ...string) v1alpha1.CacheSpecImages {
	l := v1alpha1.CacheSpecImages{Images: []v1alpha1.ImageReference{v1alpha1.ImageReference(reference)}}
	for i := 0; i < len(pairs); i += 2 {
		if l.NodeSelector == nil {
			l.NodeSelector = map[string]v1alpha1.LabelValue{}
		}
		l.NodeSelector[pairs[i]] = v1alpha1.LabelValue(pairs[i+1])
	}
	return l
}

func affine(l v1alpha1.CacheSpecImages, key string, values ...string) v1alpha1.CacheSpecImages {
	l.NodeAffinity = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}},
	}}}
	return l
}

func image(reference string, owners ...Owner) Image {
	return Image{Ref: ref(reference), Pin: v1alpha1.PinAlways, KeepPrevious: DefaultKeepPrevious, Owners: owners}
}

func ref(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(fmt.Sprintf("test reference %q: %s", s, strings.TrimSpace(err.Error())))
	}
	return r
}
