package layout_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/layout"
	"edgecache.dev/edgeagent/runtime/runtimetest"
)

func TestMain(m *testing.M) {
	if err := runtimetest.Agent(func(dir, hosts string) (runtime.Driver, error) {
		return layout.New(layout.Options{Dir: dir, Source: fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{hosts}})})
	}); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// TestKilledAgentResumes kills an agent with SIGKILL in the middle of a layer.
func TestKilledAgentResumes(t *testing.T) {
	t.Parallel()
	runtimetest.KilledAgentResumes(t, t.TempDir(), func(t *testing.T, dir, hosts string) runtime.Driver {
		return open(t, layout.Options{Dir: dir, Source: fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{hosts}})})
	})
}

// dir is a layout directory as other tools see it.
type dir string

func (d dir) blob(dg digest.Digest) string {
	return filepath.Join(string(d), "blobs", "sha256", dg.Encoded())
}

func (d dir) has(_ *testing.T, dg digest.Digest) bool {
	_, err := os.Stat(d.blob(dg))
	return err == nil
}

func (d dir) index(t *testing.T) ocispec.Index {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(string(d), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var idx ocispec.Index
	if err := json.Unmarshal(b, &idx); err != nil {
		t.Fatal(err)
	}
	return idx
}

// change edits index.json as another tool would.
func (d dir) change(t *testing.T, f func(*ocispec.Index)) {
	t.Helper()
	idx := d.index(t)
	f(&idx)
	b, err := json.Marshal(idx)
	if err != nil {
		t.Fatal(err)
	}
	// As a whole: the driver may be reading.
	file := filepath.Join(string(d), "index.json")
	if err := os.WriteFile(file+".by-hand", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".by-hand", file); err != nil {
		t.Fatal(err)
	}
}

func (d dir) name(t *testing.T, name imageref.Reference, dg digest.Digest) {
	t.Helper()
	d.change(t, func(idx *ocispec.Index) {
		for _, e := range idx.Manifests {
			if e.Digest == dg {
				e.Annotations = map[string]string{"io.containerd.image.name": name.String(), ocispec.AnnotationRefName: name.Tag()}
				idx.Manifests = append(idx.Manifests, e)
				return
			}
		}
	})
}

func (d dir) unname(t *testing.T, name imageref.Reference) {
	t.Helper()
	d.change(t, func(idx *ocispec.Index) {
		var kept []ocispec.Descriptor
		for _, e := range idx.Manifests {
			if e.Annotations[ocispec.AnnotationRefName] != name.String() {
				kept = append(kept, e)
			}
		}
		idx.Manifests = kept
	})
}

func (d dir) damage(t *testing.T, dg digest.Digest) {
	t.Helper()
	if err := os.Remove(d.blob(dg)); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, o layout.Options) *layout.Driver {
	t.Helper()
	d, err := layout.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	t.Parallel()
	runtimetest.Conformance(t, func(t *testing.T, s runtimetest.Setup) runtimetest.Harness {
		d := dir(t.TempDir())
		o := layout.Options{
			Dir: string(d), PollEvery: 100 * time.Millisecond,
			Source:  fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{s.HostsDir}, Credentials: s.Credentials}),
			Damaged: func(err error) { t.Errorf("damaged: %v", err) },
		}
		return runtimetest.Harness{
			Driver: open(t, o),
			Reopen: func(t *testing.T) runtime.Driver { return open(t, o) },
			Name:   d.name, Unname: d.unname, Damage: d.damage, Has: d.has,
		}
	})
}
