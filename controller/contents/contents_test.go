package contents

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"

	"edgecache.dev/api/client/clientset/versioned/fake"
	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/resolve"
)

// shelf is a keeper whose lister sees what was written when look is called.
type shelf struct {
	*Keeper
	t      *testing.T
	client *fake.Clientset
	store  cache.Indexer
	clock  *clocktesting.FakePassiveClock
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	client := fake.NewSimpleClientset() // NewClientset needs an OpenAPI schema of custom resources
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	clock := clocktesting.NewFakePassiveClock(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
	return &shelf{
		t: t, client: client, store: store, clock: clock,
		Keeper: &Keeper{Lister: listers.NewImageContentLister(store), Client: client.EdgecacheV1alpha1().ImageContents(), Clock: clock},
	}
}

// look lets the lister catch up and gives the number of writes since the last look.
func (s *shelf) look() int {
	s.t.Helper()
	writes := 0
	for _, a := range s.client.Actions() {
		if a.GetVerb() != "list" {
			writes++
		}
	}
	list, err := s.Client.List(context.Background(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	var all []any
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	if err := s.store.Replace(all, ""); err != nil {
		s.t.Fatal(err)
	}
	s.client.ClearActions()
	return writes
}

func (s *shelf) keep(img resolve.Image) {
	s.t.Helper()
	if err := s.Keep(s.t.Context(), img); err != nil {
		s.t.Fatal(err)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.keep(imageIn("r.io/app"))
	if n := s.look(); n != 1 {
		t.Errorf("%d writes for a new content, want 1", n)
	}
	s.keep(imageIn("r.io/app"))
	if n := s.look(); n != 0 {
		t.Errorf("%d writes for a known content, want 0", n)
	}
	s.keep(imageIn("mirror.io/app"))
	if n := s.look(); n != 1 {
		t.Errorf("%d writes for another repository, want 1", n)
	}
	got, err := s.Lister.Get(v1alpha1.ContentName(digestOf('a')))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"r.io/app", "mirror.io/app"}, got.Repositories); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
	for name, want := range map[string]bool{"r.io/app:v1": true, "mirror.io/app:v1": true, "other.io/app:v1": false} {
		if got := s.Knows(mustParse(name), digestOf('a')); got != want {
			t.Errorf("Knows(%s) = %v, want %v", name, got, want)
		}
	}
}

func TestRepositoriesAreBounded(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	for i := range maxRepositories + 3 {
		s.keep(imageIn(fmt.Sprintf("r%d.io/app", i)))
		s.look()
	}
	got, err := s.Lister.Get(v1alpha1.ContentName(digestOf('a')))
	if err != nil || len(got.Repositories) != maxRepositories {
		t.Errorf("%d repositories (%v), want %d", len(got.Repositories), err, maxRepositories)
	}
	if !s.Knows(mustParse("more.io/app:v1"), digestOf('a')) {
		t.Error("a full object would be written again and again")
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.keep(imageIn("r.io/app"))
	s.look()
	for platform, want := range map[string]int64{"linux/amd64": 100, "linux/arm64": 200, "linux/arm64/v8": 200, "linux/riscv64": 200, "": 200} {
		if got := s.Size(digestOf('a'), platform); got != want {
			t.Errorf("Size on %q = %d, want %d", platform, got, want)
		}
	}
	if got := s.Size(digestOf('b'), "linux/amd64"); got != 0 {
		t.Errorf("Size of an unknown digest = %d, want 0", got)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.keep(imageIn("r.io/app"))
	s.look()
	name := v1alpha1.ContentName(digestOf('a'))
	steps := []struct {
		after  time.Duration
		named  bool
		writes int
		there  bool
	}{
		{0, true, 0, true},
		{0, false, 1, true}, // marked
		{23 * time.Hour, false, 0, true},
		{0, true, 1, true}, // named again: unmarked
		{48 * time.Hour, true, 0, true},
		{0, false, 1, true}, // marked anew
		{24 * time.Hour, false, 1, false},
	}
	for i, step := range steps {
		s.clock.SetTime(s.clock.Now().Add(step.after))
		if err := s.Sweep(t.Context(), map[string]bool{name: step.named}); err != nil {
			t.Fatal(err)
		}
		writes := s.look()
		_, err := s.Lister.Get(name)
		if writes != step.writes || (err == nil) != step.there {
			t.Errorf("step %d: %d writes, there %v, want %d, %v", i, writes, err == nil, step.writes, step.there)
		}
	}
}

func imageIn(repository string) resolve.Image {
	platform := func(arch string, size int64) resolve.Platform {
		return resolve.Platform{OS: "linux", Architecture: arch, Manifest: digestOf('c'), Config: digestOf('d'), Size: size}
	}
	return resolve.Image{
		Reference: mustParse(repository + ":v1"), Digest: digestOf('a'),
		Platforms: []resolve.Platform{platform("amd64", 100), platform("arm64", 200)},
	}
}

func digestOf(c byte) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(string(c), 64)) }

func mustParse(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}
