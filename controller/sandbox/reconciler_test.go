package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/resolution"
	"edgecache.dev/registrycheck/keychain"
	"edgecache.dev/registrycheck/resolve"
)

const pause = "docker.io/library/p:1"

// world is a fleet whose agents report, and a registry.
type world struct {
	*testing.T
	reconciler *Reconciler
	table      *resolution.Table
	looker     *resolution.Looker
	objects    cache.Indexer
	looks      []resolution.Key
	touched    []string
	refusal    error // of the registry
	asked      int   // of the registry
}

func newWorld(t *testing.T, table *resolution.Table, objects ...*v1alpha1.NodeImageCache) *world {
	t.Helper()
	w := &world{T: t, table: table, objects: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})}
	for _, o := range objects {
		if err := w.objects.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	lister := listers.NewNodeImageCacheLister(w.objects).NodeImageCaches(v1alpha1.SystemNamespace)
	w.reconciler = New(lister, table, func(k resolution.Key) { w.looks = append(w.looks, k) }, func(n string) { w.touched = append(w.touched, n) })
	w.looker = &resolution.Looker{
		Table: table, Resolver: w, Contents: w, Secrets: w, Clock: clock.RealClock{},
		Changed: func(wish.Owner) {}, Counted: func(v1alpha1.Verdict) {},
	}
	if err := w.reconciler.Prime(); err != nil {
		t.Fatal(err)
	}
	return w
}

// Digest answers with d1.
func (w *world) Digest(context.Context, imageref.Reference, keychain.Keychain) (digest.Digest, error) {
	w.asked++
	return d1, w.refusal
}

// Resolve answers with d1.
func (w *world) Resolve(_ context.Context, ref imageref.Reference, chain keychain.Keychain) (resolve.Image, error) {
	w.asked++
	if len(chain.For(ref)) > 0 {
		w.Error("the registry was shown credentials")
	}
	return resolve.Image{Reference: ref, Digest: d1}, w.refusal
}

// Keep forgets.
func (w *world) Keep(context.Context, resolve.Image) error { return nil }

// Knows nothing.
func (w *world) Knows(imageref.Reference, digest.Digest) bool { return false }

// Secret fails: none is to be read.
func (w *world) Secret(context.Context, string, string) (*corev1.Secret, error) {
	w.Error("a Secret was read")
	return nil, errors.New("no")
}

// sync has the reconciler work and what it asks for looked up.
func (w *world) sync() {
	w.Helper()
	for range 2 {
		w.touched = nil
		if _, err := w.reconciler.Sync(w.Context(), struct{}{}); err != nil {
			w.Fatal(err)
		}
		for _, k := range w.looks {
			if _, err := w.looker.Sync(w.Context(), k); err != nil {
				w.Fatal(err)
			}
		}
		w.looks = nil
	}
}

// wishes gives the digests that nodes are to hold, by node.
func (w *world) wishes() map[string]string {
	w.Helper()
	out := map[string]string{}
	for _, obj := range w.objects.List() {
		o, _ := obj.(*v1alpha1.NodeImageCache)
		if c := w.reconciler.For(o); c != nil {
			out[o.Name] = c.References()[0].Tag() + " " + w.table.Target(c.References()[0]).String()
		}
	}
	return out
}

func (w *world) expect(touched []string, wishes map[string]string) {
	w.Helper()
	slices.Sort(w.touched)
	if diff := cmp.Diff(touched, w.touched, cmpopts.EquateEmpty()); diff != "" {
		w.Errorf("touched (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wishes, w.wishes(), cmpopts.EquateEmpty()); diff != "" {
		w.Errorf("wishes (-want +got):\n%s", diff)
	}
}

// TestEachNodeItsImage: what is reported is looked up once, without credentials, and wished
// on the nodes that report it.
func TestEachNodeItsImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, resolution.NewTable(), reports("p:1", "p:2", "p:1", "")...)
	w.expect(nil, nil)
	w.sync()
	w.expect([]string{"n00", "n01", "n02"}, map[string]string{"n00": "1 " + d1.String(), "n01": "2 " + d1.String(), "n02": "1 " + d1.String()})
	if w.asked != 2 {
		t.Errorf("the registry was asked %d times, want once per image", w.asked)
	}
	w.sync()
	if w.asked != 2 {
		t.Error("the registry was asked again")
	}
}

// TestWhatTheRegistryDoesNotGive is no wish, and keeps no spec from being complete.
func TestWhatTheRegistryDoesNotGive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, resolution.NewTable(), reports("p:1")...)
	w.refusal = &resolve.Error{Reason: v1alpha1.ReasonNotFound, Err: errors.New("no such image")}
	w.sync()
	w.expect(nil, nil)
}

// TestRestart: what stands in the specs was found before. It is not looked up again, and
// stays when the registry does not give it any more.
func TestRestart(t *testing.T) {
	t.Parallel()
	objects := reports("p:1", "p:1")
	objects[0].Spec.Images = []v1alpha1.NodeImage{image(pause, d2, v1alpha1.OwnerSandboxImage)}
	w := newWorld(t, resolution.NewTable(), objects...)
	w.expect(nil, map[string]string{"n00": "1 " + d2.String(), "n01": "1 " + d2.String()})
	w.refusal = errors.New("away")
	w.sync()
	w.expect([]string{"n01"}, map[string]string{"n00": "1 " + d2.String(), "n01": "1 " + d2.String()})
	if w.asked != 0 {
		t.Errorf("the registry was asked %d times", w.asked)
	}
}

// TestAnImageCacheNamesIt: one digest holds for all, that of the ImageCache's status.
func TestAnImageCacheNamesIt(t *testing.T) {
	t.Parallel()
	table := resolution.NewTable()
	ref, err := imageref.Parse(pause)
	if err != nil {
		t.Fatal(err)
	}
	table.Take(resolution.Interest{
		Owner: "ns/a", Namespace: "ns", Images: []imageref.Reference{ref}, Again: func(imageref.Reference) bool { return false },
		Known: []v1alpha1.ImageStatus{{Name: pause, Digest: d1.String(), Check: &v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable}}},
	})
	objects := reports("p:1")
	objects[0].Spec.Images = []v1alpha1.NodeImage{image(pause, d2, "ns/a", v1alpha1.OwnerSandboxImage)}
	w := newWorld(t, table, objects...)
	w.sync()
	w.expect([]string{"n00"}, map[string]string{"n00": "1 " + d1.String()})
	table.Drop("ns/a")
	w.expect([]string{"n00"}, map[string]string{"n00": "1 " + d1.String()})
}

// TestNoLongerReported: the spec is worked out again, and nothing is wished.
func TestNoLongerReported(t *testing.T) {
	t.Parallel()
	objects := reports("", "p:2")
	for _, o := range objects {
		o.Spec.Images = []v1alpha1.NodeImage{image(pause, d1, v1alpha1.OwnerSandboxImage)}
	}
	w := newWorld(t, resolution.NewTable(), objects...)
	w.sync()
	w.expect([]string{"n00", "n01"}, map[string]string{"n01": "2 " + d1.String()})
}

// TestALiar: an agent that reports another image each time has a handful looked up, and
// takes no node's image away.
func TestALiar(t *testing.T) {
	t.Parallel()
	objects := reports("p:1", "")
	w := newWorld(t, resolution.NewTable(), objects...)
	for i := range 100 {
		liar := objects[1].DeepCopy()
		liar.Status.Runtime.SandboxImage = fmt.Sprintf("x:%d", i)
		if err := w.objects.Update(liar); err != nil {
			t.Fatal(err)
		}
		w.sync()
		if got := w.wishes()["n00"]; got != "1 "+d1.String() {
			t.Fatalf("after %d lies the wish of the other node is %q", i, got)
		}
	}
	if w.asked > maxImages+1 {
		t.Errorf("the registry was asked %d times, want %d at most", w.asked, maxImages+1)
	}
}
