package fetch_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

func TestDamagedDocumentIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
	if _, err := f.pull(t, d); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.dir, "blobs", "sha256", d.Encoded())
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, collected := f.puller(fetch.Options{}), 0
	p.Collect = func(ctx context.Context) error {
		if _, err := f.store.Info(ctx, d); errdefs.IsNotFound(err) {
			collected++
		}
		return nil
	}
	_, err := p.Image(t.Context(), f.want(t, d), nil)
	if _ = reason(t, err, fetch.RuntimeError); !fetch.Transient(err) {
		t.Errorf("%v is permanent", err)
	}
	if _, err := p.Image(t.Context(), f.want(t, d), nil); err != nil || collected != 1 {
		t.Errorf("after throwing the damaged manifest away: %v; collected %d times, want once", err, collected)
	}
	f.has(t, d)
}

func TestStoredBlobOfAnotherSize(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 100_000)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	if _, err := f.pull(t, d); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.dir, "blobs", "sha256", fetchtest.Digest(t, l).Encoded())
	if err := errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 1000)); err != nil {
		t.Fatal(err)
	}
	_, err := f.pull(t, d)
	if _ = reason(t, err, fetch.RuntimeError); !fetch.Transient(err) {
		t.Errorf("%v is permanent", err)
	}
	if _, err := f.pull(t, d); err != nil {
		t.Errorf("after throwing the truncated layer away: %v", err)
	}
	f.has(t, fetchtest.Digest(t, l))
}

func TestManifestThatLiesAboutASizeDeletesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 1000)
	img := fetchtest.Image(t, node, l)
	if _, err := f.pull(t, f.reg.Push(t, "app:v1", img)); err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m.Layers[0].Size--
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		_, err := w.Write(body)
		return err == nil
	}})
	_, err = f.pull(t, digest.FromBytes(body))
	if e := reason(t, err, fetch.RegistryError); !strings.Contains(e.Error(), "manifest gives") {
		t.Errorf("error = %v", e)
	}
	f.has(t, fetchtest.Digest(t, l))
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	arm, amd := fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)), fetchtest.Image(t, "linux/amd64")
	d := f.reg.Push(t, "app:v1", fetchtest.Index(t, amd, arm))
	platform := platforms.MustParse(node)
	if _, err := fetch.Describe(t.Context(), f.store, d, platform); !errdefs.IsNotFound(err) {
		t.Errorf("error = %v, want not found", err)
	}
	want, err := f.pull(t, d)
	if err != nil {
		t.Fatal(err)
	}
	f.reg.Forget()
	got, err := fetch.Describe(t.Context(), f.store, d, platform)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, image (-want +got):\n%s", err, diff)
	}
	_, err = fetch.Describe(t.Context(), f.store, d, platforms.MustParse("linux/s390x"))
	_ = reason(t, err, fetch.PlatformMissing)
	if n := len(f.reg.Requests()); n != 0 {
		t.Errorf("describing asked the registry %d times", n)
	}
}

func TestLayersThatAreNotNeeded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	base, own := fetchtest.Layer(t, 1, 100_000), fetchtest.Layer(t, 2, 1000)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, base, own))
	p := f.puller(fetch.Options{})
	p.Layers = func(_ context.Context, img fetch.Image) ([]ocispec.Descriptor, error) { return img.Layers[1:], nil }
	var last fetch.Progress
	img, err := p.Image(t.Context(), f.want(t, d), func(p fetch.Progress) { last = p })
	if err != nil || len(img.Layers) != 2 {
		t.Fatalf("%d layers, %v, want both named", len(img.Layers), err)
	}
	if last != (fetch.Progress{Size: img.Size, Done: img.Size}) || f.reg.Sent(fetchtest.Digest(t, base)) != 0 {
		t.Errorf("last report %v, %d bytes of the layer that is not needed", last, f.reg.Sent(fetchtest.Digest(t, base)))
	}
	p.Layers = func(context.Context, fetch.Image) ([]ocispec.Descriptor, error) { return nil, os.ErrPermission }
	if _, err := p.Image(t.Context(), f.want(t, d), nil); !errors.Is(err, os.ErrPermission) {
		t.Errorf("error = %v, want %v", err, os.ErrPermission)
	}
}

// fullStore is a store without room for layers.
type fullStore struct{ content.Store }

type fullWriter struct{ content.Writer }

func (s fullStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w, err := s.Store.Writer(ctx, opts...)
	return fullWriter{w}, err
}

func (fullWriter) Write([]byte) (int, error) {
	return 0, errors.New("rpc error: no space left on device")
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
	f.store = fullStore{f.store}
	_, err := f.pull(t, d)
	_ = reason(t, err, fetch.InsufficientDisk)
}
