package unpacked

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/google/go-cmp/cmp"

	"edgecache.dev/test/lab/omit"
)

// layer is a tar with one of each kind, and a file that comes twice.
func layer(t *testing.T) []byte {
	t.Helper()
	large := make([]byte, 3*chunk+17)
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, body string) {
		h.Size, h.Mode = int64(len(body)), 0o755
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "./"}, "")
	add(tar.Header{Typeflag: tar.TypeDir, Name: "usr/lib/"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "lib", Linkname: "/usr/lib"}, "")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "lib/twice"}, "first")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "lib/twice"}, "and last")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "usr/large"}, string(large))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "usr/empty"}, "")
	add(tar.Header{Typeflag: tar.TypeLink, Name: "usr/same", Linkname: "usr/large"}, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestCompare: what containerd unpacked is what the tar says, until it is damaged.
func TestCompare(t *testing.T) {
	t.Parallel()
	body := layer(t)
	tests := map[string]struct {
		damage func(dir string) error
		want   []string
	}{
		"intact":            {func(string) error { return nil }, nil},
		"more than the tar": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) }, nil},
		"cut to nothing": {func(dir string) error { return os.Truncate(filepath.Join(dir, "usr/large"), 0) }, []string{
			"/usr/large: has 0 bytes, want 98321"}},
		"zeros": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "usr/lib/twice"), make([]byte, 8), 0o600)
		}, []string{
			"/lib/twice: has other bytes than its layer"}},
		"a file is gone":      {func(dir string) error { return os.Remove(filepath.Join(dir, "usr/empty")) }, []string{"/usr/empty: is not there"}},
		"another file linked": {relinked, []string{`/usr/same: is not linked to "usr/large"`}},
		"a directory is gone": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "usr")) }, []string{
			"/lib/twice: is not there", "/usr/empty: is not there", "/usr/large: is not there", "/usr/lib: is not there", "/usr/same: is not there"}},
		"a link elsewhere": {func(dir string) error {
			link := filepath.Join(dir, "lib")
			_ = os.Remove(link)
			return os.Symlink("usr/lib", link)
		}, []string{`/lib: links to "usr/lib", want "/usr/lib"`}},
		"another kind": {func(dir string) error {
			path := filepath.Join(dir, "usr/empty")
			_ = os.Remove(path)
			return os.Mkdir(path, 0o700)
		}, []string{"/usr/empty: is d---------, want ----------"}},
	}
	for name, tc := range tests {
		dir := t.TempDir()
		if _, err := archive.Apply(t.Context(), dir, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		if err := tc.damage(dir); err != nil {
			t.Fatal(err)
		}
		got, err := Compare(t.Context(), dir, bytes.NewReader(body), true)
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func relinked(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "usr/large"))
	_ = os.Remove(filepath.Join(dir, "usr/same"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "usr/same"), b, 0o600)
}

// TestCompareNothing: what cannot be read says nothing of the layer.
func TestCompareNothing(t *testing.T) {
	t.Parallel()
	if _, err := Compare(t.Context(), filepath.Join(t.TempDir(), "absent"), bytes.NewReader(layer(t)), true); err == nil {
		t.Error("a directory that is not there was compared")
	}
	body := layer(t)
	if _, err := Compare(t.Context(), t.TempDir(), bytes.NewReader(body[:700]), true); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("half a tar: %v", err)
	}
}

// TestCompareDeletions: overlayfs has a device of number 0 for what a layer deletes.
func TestCompareDeletions(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		omit.Test(t, "making a device needs root")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{".wh.gone", "dir/.wh..wh..opq"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := archive.Apply(t.Context(), dir, bytes.NewReader(b.Bytes()), archive.WithConvertWhiteout(archive.OverlayConvertWhiteout)); err != nil {
		t.Fatal(err)
	}
	if got, err := Compare(t.Context(), dir, bytes.NewReader(b.Bytes()), false); len(got) != 0 || err != nil {
		t.Errorf("intact: %v, %v", got, err)
	}
	if err := os.Remove(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if got, err := Compare(t.Context(), dir, bytes.NewReader(b.Bytes()), false); len(got) != 1 || err != nil {
		t.Errorf("a lost deletion: %v, %v", got, err)
	}
	if got, err := Compare(t.Context(), dir, bytes.NewReader(b.Bytes()), true); len(got) != 0 || err != nil {
		t.Errorf("in the lowest layer: %v, %v", got, err)
	}
}
