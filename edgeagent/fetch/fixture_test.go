package fetch_test

import (
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const node = "linux/arm64"

// labels keeps labels in memory, as the store of a runtime keeps them on disk.
type labels struct {
	mu sync.Mutex
	m  map[digest.Digest]map[string]string
	n  int // writes
}

func (l *labels) Get(d digest.Digest) (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m[d], nil
}

func (l *labels) Set(d digest.Digest, set map[string]string) error {
	_, err := l.Update(d, set)
	return err
}

func (l *labels) Update(d digest.Digest, set map[string]string) (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	merged := map[string]string{}
	for _, m := range []map[string]string{l.m[d], set} {
		maps.Copy(merged, m)
	}
	l.m[d] = merged
	return merged, nil
}

// fixture is a registry and a store on one node.
type fixture struct {
	reg    *fetchtest.Registry
	store  content.Store
	dir    string
	labels *labels
	opts   fetch.RegistryOptions
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{reg: fetchtest.NewRegistry(t), dir: t.TempDir(), labels: &labels{m: map[digest.Digest]map[string]string{}}}
	f.opts.HostsDirs = []string{f.reg.HostsDir(t, "")}
	f.reopen(t)
	return f
}

// reopen opens the store anew, as a restarted agent does.
func (f *fixture) reopen(t *testing.T) {
	t.Helper()
	var err error
	if f.store, err = local.NewLabeledStore(f.dir, f.labels); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) puller(o fetch.Options) *fetch.Puller {
	return &fetch.Puller{Source: fetch.NewRegistry(f.opts), Store: f.store, Options: o}
}

// pull fetches app:v1 by digest for the node's platform.
func (f *fixture) pull(t *testing.T, d digest.Digest) (fetch.Image, error) {
	t.Helper()
	return f.puller(fetch.Options{}).Image(t.Context(), f.want(t, d), nil)
}

func (f *fixture) want(t *testing.T, d digest.Digest) fetch.Want {
	t.Helper()
	return fetch.Want{Name: f.reg.Ref(t, "app:v1"), Digest: d, Platform: platforms.MustParse(node)}
}

func (f *fixture) has(t *testing.T, ds ...digest.Digest) {
	t.Helper()
	for _, d := range ds {
		info, err := f.store.Info(t.Context(), d)
		if err != nil {
			t.Errorf("blob %s: %v", d, err)
			continue
		}
		b, err := content.ReadBlob(t.Context(), f.store, ocispec.Descriptor{Digest: d, Size: info.Size})
		if err != nil || digest.FromBytes(b) != d {
			t.Errorf("blob %s: wrong bytes, %v", d, err)
		}
	}
}

// offset gives the size of the ingest of a blob, 0 when there is none.
func (f *fixture) offset(t *testing.T, d digest.Digest) int64 {
	t.Helper()
	st, err := f.store.Status(t.Context(), "layer-"+d.String())
	if err != nil && !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	return st.Offset
}

func reason(t *testing.T, err error, want fetch.Reason) *fetch.Error {
	t.Helper()
	e, ok := errors.AsType[*fetch.Error](err)
	if !ok || e.Reason != want {
		t.Fatalf("error = %v, want reason %s", err, want)
	}
	return e
}

func mustRef(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
