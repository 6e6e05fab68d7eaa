package layout_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/layout"
)

const node = "linux/arm64"

// world is a registry and a layout directory.
type world struct {
	dir
	reg     *fetchtest.Registry
	options layout.Options
	driver  *layout.Driver
	damage  []error // what the driver said
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: dir(filepath.Join(t.TempDir(), "made", "on", "the", "way")), reg: fetchtest.NewRegistry(t)}
	w.options = layout.Options{
		Dir: string(w.dir), Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"},
		Source:  fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{w.reg.HostsDir(t, "")}}),
		Damaged: func(err error) { w.damage = append(w.damage, err) },
	}
	w.reopen(t)
	t.Cleanup(func() { closeDriver(t, w.driver) })
	return w
}

func closeDriver(t *testing.T, d *layout.Driver) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// reopen restarts the agent.
func (w *world) reopen(t *testing.T) {
	t.Helper()
	if w.driver != nil {
		closeDriver(t, w.driver)
	}
	w.driver = open(t, w.options)
}

func (w *world) path(name string) string { return filepath.Join(string(w.dir), name) }

// cache pushes an image of a 1 kB layer for each seed and ensures it.
func (w *world) cache(t *testing.T, ref string, seeds ...int64) runtime.Request {
	t.Helper()
	r := w.push(t, ref, seeds...)
	if err := w.driver.Ensure(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) push(t *testing.T, ref string, seeds ...int64) runtime.Request {
	t.Helper()
	img := fetchtest.Image(t, node, layersOf(t, seeds)...)
	return runtime.Request{Name: w.reg.Ref(t, ref), Digest: w.reg.Push(t, ref, img), Pin: true}
}

func layersOf(t *testing.T, seeds []int64) (layers []v1.Layer) {
	t.Helper()
	for _, seed := range seeds {
		layers = append(layers, fetchtest.Layer(t, seed, 1000))
	}
	return layers
}

func (w *world) inventory(t *testing.T) runtime.Inventory {
	t.Helper()
	inv, err := w.driver.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func (w *world) wantComplete(t *testing.T, rs ...runtime.Request) {
	t.Helper()
	inv := w.inventory(t)
	for _, r := range rs {
		for _, name := range runtime.NamesOf(r.Name, r.Digest) {
			if got := inv[name]; got.Digest != r.Digest || !got.Complete {
				t.Errorf("%s = %+v, want %s, complete", name, got, r.Digest)
			}
		}
	}
}

// files lists a folder of the layout.
func (w *world) files(t *testing.T, name string) []string {
	t.Helper()
	entries, err := os.ReadDir(w.path(name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedIndexIsMovedAside(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":          "",
		"zeros":          strings.Repeat("\x00", 500),
		"torn":           `{"schemaVersion":2,"manifests":[{"dig`,
		"other document": `{"schemaVersion":1}`,
		"wrong types":    `{"schemaVersion":2,"manifests":{"a":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.cache(t, "app:v1", 1)
			write(t, w.path("index.json"), text)
			if inv := w.inventory(t); len(inv) != 0 {
				t.Errorf("inventory = %v, want none", inv)
			}
			if len(w.damage) != 1 || !strings.Contains(w.damage[0].Error(), "index.json is damaged and was moved to index.json.damaged-") {
				t.Fatalf("told %v, want the damage once", w.damage)
			}
			if aside := w.files(t, "."); !slices.ContainsFunc(aside, func(f string) bool { return strings.HasPrefix(f, "index.json.damaged-") }) {
				t.Errorf("files = %v, want the damaged one kept", aside)
			}
			w.reopen(t)
			w.reg.Forget()
			if err := w.driver.Ensure(t.Context(), r, nil); err != nil {
				t.Fatal(err)
			}
			w.wantComplete(t, r)
			if n := len(w.reg.Requests()); n != 0 {
				t.Errorf("getting the names back took %d requests, want none", n)
			}
		})
	}
}

func TestRemovalAfterDamageKeepsWhatIsNotNamedYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.cache(t, "one:v1", 1), w.cache(t, "two:v1", 2)
	write(t, w.path("index.json"), "")
	w.reopen(t)
	if err := w.driver.Ensure(t.Context(), first, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.driver.Remove(t.Context(), runtime.NamesOf(first.Name, first.Digest)...); err != nil {
		t.Fatal(err)
	}
	w.reg.Forget()
	if err := w.driver.Ensure(t.Context(), second, nil); err != nil {
		t.Fatal(err)
	}
	w.wantComplete(t, second)
	if n := len(w.reg.Requests()); n != 0 {
		t.Errorf("%d requests, want none: the blobs were there", n)
	}
}

func TestCrashWhileReplacingTheIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.cache(t, "app:v1", 1)
	write(t, w.path("index.json.new"), `{"schemaVersion":2,"manif`)
	w.reopen(t)
	w.wantComplete(t, r)
	w.wantComplete(t, w.cache(t, "app:v2", 2))
}

func TestLayoutMarker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.cache(t, "app:v1", 1)
	for _, torn := range []string{"", "{", "{}"} {
		write(t, w.path("oci-layout"), torn)
		w.reopen(t)
		w.wantComplete(t, r)
		if b, err := os.ReadFile(w.path("oci-layout")); err != nil || string(b) != `{"imageLayoutVersion":"1.0.0"}` {
			t.Errorf("oci-layout = %s, %v", b, err)
		}
	}
	write(t, w.path("oci-layout"), `{"imageLayoutVersion":"2.0.0"}`)
	if d, err := layout.New(w.options); err == nil || !strings.Contains(err.Error(), `layout version is "2.0.0", want 1.x`) {
		t.Errorf("New = %v, %v, want an error about the version", d, err)
	}
}

func TestWhatOthersWriteIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.cache(t, "app:v1", 1)
	foreign := ocispec.Descriptor{MediaType: "application/x", Digest: digest.FromString("x"), Size: 1, Annotations: map[string]string{ocispec.AnnotationRefName: "latest"}}
	bad := ocispec.Descriptor{Digest: "nonsense"}
	w.change(t, func(idx *ocispec.Index) {
		idx.Annotations = map[string]string{"tool": "other"}
		idx.Manifests = append(idx.Manifests, foreign, bad)
	})
	if err := w.driver.Remove(t.Context(), r.Name); err != nil {
		t.Fatal(err)
	}
	idx := w.index(t)
	if diff := cmp.Diff([]ocispec.Descriptor{foreign, bad}, idx.Manifests[len(idx.Manifests)-2:]); diff != "" || idx.Annotations["tool"] != "other" {
		t.Errorf("entries of others (-want +got):\n%s\nannotations %v", diff, idx.Annotations)
	}
	if inv := w.inventory(t); len(inv) != 1 {
		t.Errorf("inventory = %v, want our name by digest only: %q is no full name", inv, "latest")
	}
}

func TestIndexIsPlainOCI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.cache(t, "app:v1", 1)
	want := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: r.Digest, Size: int64(len(w.read(t, r.Digest))),
		Annotations: map[string]string{ocispec.AnnotationRefName: r.Name.String(), "edgecache.dev/managed": "true", "edgecache.dev/pinned": "true"},
	}
	idx := w.index(t)
	if diff := cmp.Diff(want, idx.Manifests[0]); diff != "" || idx.SchemaVersion != 2 || idx.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("index %+v, entry (-want +got):\n%s", idx, diff)
	}
}

func (w *world) read(t *testing.T, d digest.Digest) []byte {
	t.Helper()
	b, err := os.ReadFile(w.blob(d))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLostBetweenTwoLooks: an image that came and was lost before anybody looked is hinted.
func TestLostBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.PollEvery = 300 * time.Millisecond
	w.reopen(t)
	hints := w.driver.Changes(t.Context())
	time.Sleep(w.options.PollEvery + w.options.PollEvery/3) // just after a look
	r := w.cache(t, "app:v1", 1)
	for _, name := range runtime.NamesOf(r.Name, r.Digest) {
		w.unname(t, name)
	}
	select {
	case <-hints:
	case <-time.After(time.Minute):
		t.Error("no hint that an image was lost")
	}
}

func TestTruncatedBlobShowsAndComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.cache(t, "app:v1", 1)
	var m ocispec.Manifest
	if err := json.Unmarshal(w.read(t, r.Digest), &m); err != nil {
		t.Fatal(err)
	}
	path := w.blob(m.Layers[0].Digest)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	if w.inventory(t)[r.Name].Complete {
		t.Error("an image with a truncated layer counts as complete")
	}
	if err := w.driver.Ensure(t.Context(), r, nil); !runtime.Transient(err) || !strings.Contains(err.Error(), "damaged and were deleted") {
		t.Fatalf("error = %v, want a transient one that names the damage", err)
	}
	if err := w.driver.Ensure(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	w.wantComplete(t, r)
}

func TestOldLeftoversGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cache(t, "app:v1", 1)
	before := w.files(t, "blobs/sha256")
	half := w.push(t, "half:v1", 7)
	w.reg.Set(fetchtest.Faults{CutAfter: 500, Stall: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := w.driver.Ensure(ctx, half, nil); err == nil {
		t.Fatal("want half a pull")
	}
	w.reg.Set(fetchtest.Faults{})
	w.asOf(t, time.Unix(3600, 0)) // the clock was not set then
	w.reopen(t)
	if len(w.files(t, "ingest")) != 1 || len(w.files(t, "blobs/sha256")) <= len(before) {
		t.Fatal("half a pull is gone after a restart")
	}
	w.options.KeepUnnamed = time.Nanosecond
	w.reopen(t)
	if diff := cmp.Diff(before, w.files(t, "blobs/sha256")); diff != "" || len(w.files(t, "ingest")) != 0 {
		t.Errorf("ingests %v, blobs (-want +got):\n%s", w.files(t, "ingest"), diff)
	}
}

// asOf dates all that was fetched.
func (w *world) asOf(t *testing.T, at time.Time) {
	t.Helper()
	err := filepath.WalkDir(w.options.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if name := e.Name(); name == "updatedat" || name == "startedat" {
			text, err := at.MarshalText()
			if err == nil {
				err = os.WriteFile(path, text, 0o600)
			}
			if err != nil {
				return err
			}
		}
		return os.Chtimes(path, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRemoveWhileAnotherPullNeedsTheSameLayer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.cache(t, "old:v1", 1, 2)
	next := w.push(t, "new:v1", 1, 3)
	slow := fetchtest.Digest(t, layersOf(t, []int64{3})[0])
	asked, gate := make(chan struct{}), make(chan struct{})
	w.reg.Set(fetchtest.Faults{Before: func(_ http.ResponseWriter, req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, slow.String()) {
			close(asked)
			<-gate
		}
		return false
	}})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.driver.Ensure(t.Context(), next, nil); err != nil {
			t.Error(err)
		}
	})
	<-asked
	if err := w.driver.Remove(t.Context(), runtime.NamesOf(old.Name, old.Digest)...); err != nil {
		t.Fatal(err)
	}
	close(gate)
	wg.Wait()
	w.wantComplete(t, next)
	shared := fetchtest.Digest(t, layersOf(t, []int64{1})[0])
	if n := len(w.reg.Transfers(shared)); n != 1 {
		t.Errorf("the shared layer was fetched %d times, want once", n)
	}
}

func TestReadOnlyDirectoryIsAnError(t *testing.T) {
	t.Parallel()
	o := layout.Options{Dir: filepath.Join(t.TempDir(), "file")}
	write(t, o.Dir, "")
	if d, err := layout.New(o); err == nil {
		t.Errorf("New on a file = %v, want an error", d)
	}
}
