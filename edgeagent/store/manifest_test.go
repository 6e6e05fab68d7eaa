package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// TestManifests: they stand beside the wish, are kept one by one, and cost nothing when
// nothing changed.
func TestManifests(t *testing.T) {
	t.Parallel()
	s, _, err := Open(t.Context(), t.TempDir(), "node-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	of := func(name, file string) Manifest {
		return Manifest{File: file, Cache: v1alpha1.ImageCache{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}}
	}
	save := func(drop []string, all ...Manifest) {
		t.Helper()
		if err := s.SaveManifests(all, drop); err != nil {
			t.Fatal(err)
		}
	}
	save(nil, of("a", "a.yaml"), of("b", "b.yaml"))
	if err := s.Write(Change{Desired: &Desired{UID: "manifest", Known: true}}); err != nil {
		t.Fatal(err)
	}
	save([]string{"default/a"}, of("b", "c.yaml"), of("c", "c.yaml"))
	before := contents(t, s.path)
	save([]string{"default/a"}, of("b", "c.yaml"), of("c", "c.yaml"))
	if contents(t, s.path) != before {
		t.Error("the file was written and nothing had changed")
	}
	got, err := s.Manifests()
	if diff := cmp.Diff([]Manifest{of("b", "c.yaml"), of("c", "c.yaml")}, got); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	if d, found, err := s.Desired(); d.UID != "manifest" || !found || err != nil {
		t.Errorf("the wish: %+v, %t, %v", d, found, err)
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
