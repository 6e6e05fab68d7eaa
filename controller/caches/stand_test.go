package caches

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/client/clientset/versioned/fake"
	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/credentials"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/limits"
	"edgecache.dev/controller/metrics"
	"edgecache.dev/controller/nodes"
	"edgecache.dev/controller/resolution"
	"edgecache.dev/controller/rollout"
	"edgecache.dev/controller/sites"
)

// stand is a Reconciler on informers' stores that a test fills.
type stand struct {
	*Reconciler
	tb                     testing.TB
	caches, nodes, objects cache.Indexer
	client                 *fake.Clientset
	clock                  *clocktesting.FakePassiveClock
	sizes                  map[digest.Digest]int64
	looked                 []resolution.Key
	touched                []string
	others                 []wish.Owner // asked to be looked after again
}

func newStand(tb testing.TB, l limits.Limits) *stand {
	tb.Helper()
	s := &stand{
		tb: tb, client: fake.NewSimpleClientset(), sizes: map[digest.Digest]int64{}, // NewClientset needs an OpenAPI schema of custom resources
		clock:   clocktesting.NewFakePassiveClock(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)),
		caches:  cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}),
		nodes:   cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}),
		objects: cache.NewIndexer(cache.MetaNamespaceKeyFunc, nodes.Indexers()),
	}
	view := fleet.NewView(l)
	s.Reconciler = &Reconciler{
		Caches: listers.NewImageCacheLister(s.caches), Nodes: corelisters.NewNodeLister(s.nodes),
		Objects:     listers.NewNodeImageCacheLister(s.objects).NodeImageCaches(v1alpha1.SystemNamespace),
		ObjectIndex: s.objects, Client: s.client.EdgecacheV1alpha1(),
		View: view, Leases: fleet.NewLeaseClock(), Table: resolution.NewTable(), Sites: sites.New(), Gates: &rollout.Gates{View: view},
		Vault: credentials.NewVault(), Clock: s.clock,
		Accounts:   limits.NewAccounts(l, func(d digest.Digest) int64 { return s.sizes[d] }),
		LookUp:     func(k resolution.Key) { s.looked = append(s.looked, k) },
		Touch:      func(node string) { s.touched = append(s.touched, node) },
		Again:      func(o wish.Owner) { s.others = append(s.others, o) },
		ReadSecret: func(cache.ObjectName) {}, MaySeal: func() bool { return true },
		Metrics: metrics.New(), Events: &record.FakeRecorder{},
	}
	return s
}

func (s *stand) put(into cache.Indexer, object any) {
	s.tb.Helper()
	if err := into.Add(object); err != nil {
		s.tb.Fatal(err)
	}
}

// create makes an ImageCache; what its images stand for is known from its status.
func (s *stand) create(ic *v1alpha1.ImageCache) {
	s.tb.Helper()
	if err := s.client.Tracker().Add(ic); err != nil {
		s.tb.Fatal(err)
	}
	s.put(s.caches, ic)
	s.View.Put(ic)
}

// drop deletes an ImageCache.
func (s *stand) drop(ic *v1alpha1.ImageCache) {
	s.tb.Helper()
	if err := s.caches.Delete(ic); err != nil {
		s.tb.Fatal(err)
	}
	s.View.Delete(wish.OwnerOf(ic))
}

// sync works on an ImageCache and lets the store catch up.
func (s *stand) sync(name string) *v1alpha1.ImageCache {
	s.tb.Helper()
	if _, err := s.Sync(s.tb.Context(), key(name)); err != nil {
		s.tb.Fatal(err)
	}
	written, err := s.client.EdgecacheV1alpha1().ImageCaches("ns").Get(s.tb.Context(), name, metav1.GetOptions{})
	if err != nil {
		s.tb.Fatal(err)
	}
	s.put(s.caches, written)
	return written
}

func key(name string) cache.ObjectName { return cache.ObjectName{Namespace: "ns", Name: name} }

// join adds a connected node with its object.
func (s *stand) join(i int, edit func(*v1alpha1.NodeImageCache)) {
	s.tb.Helper()
	name := fmt.Sprintf("node-%05d", i)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{corev1.LabelOSStable: "linux"}}}
	s.put(s.nodes, n)
	now := metav1.NewMicroTime(s.Clock.Now())
	s.Leases.Observe(&coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: coordinationv1.LeaseSpec{RenewTime: &now},
	}, s.Clock.Now())
	object := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: v1alpha1.SystemNamespace}}
	edit(object)
	slices.SortFunc(object.Status.Images, func(a, b v1alpha1.NodeImageStatus) int { return cmp.Compare(a.Name, b.Name) })
	s.put(s.objects, object)
}

// resolved gives an ImageCache in which each image was found, with a digest of its own.
func resolved(name string, images ...string) *v1alpha1.ImageCache {
	ic := &v1alpha1.ImageCache{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Generation: 1}}
	ic.Spec.RefreshInterval = &metav1.Duration{}
	ic.Status.ObservedGeneration = 1
	for list := range slices.Chunk(images, 500) { // as many as one list may have
		var of v1alpha1.CacheSpecImages
		for _, image := range list {
			of.Images = append(of.Images, v1alpha1.ImageReference(image))
			ic.Status.Images = append(ic.Status.Images, v1alpha1.ImageStatus{
				Name: image, Digest: digestFor(image).String(), Check: &v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable},
			})
		}
		ic.Spec.CacheSpec = append(ic.Spec.CacheSpec, of)
	}
	return ic
}

func digestFor(image string) digest.Digest { return digest.FromString(image) }
