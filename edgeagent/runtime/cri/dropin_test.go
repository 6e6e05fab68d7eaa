package cri

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"edgecache.dev/api/imageref"
)

func confFolder(t *testing.T, files map[string]string) dropIn {
	t.Helper()
	f := dropIn{dir: filepath.Join(t.TempDir(), "crio.conf.d")}
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// TestDropIn: what is written is read again, with what others pin, and the file goes when
// it has nothing to say.
func TestDropIn(t *testing.T) {
	t.Parallel()
	f := confFolder(t, map[string]string{
		"../crio.conf": "[crio.image]\npinned_images = [\"main.example/a:1\"]\n",
		"10-site.conf": "[crio.image]\npinned_images = [\"site.example/*\"]\n",
		"20-log.conf":  "[crio.runtime]\nlog_level = \"info\"\n",
	})
	m := marks{
		ref(t, "r.example/app:v1"):                   {pinned: true, managed: true},
		ref(t, "r.example/app:v1").WithDigest(one):   {pinned: true, managed: true},
		ref(t, "r.example/free:v1"):                  {managed: true},
		ref(t, "r.example/pause:v1").WithDigest(two): {pinned: true},
	}
	if err := f.write(m); err != nil {
		t.Fatal(err)
	}
	got, err := f.read()
	if diff := cmp.Diff(m, got, cmp.AllowUnexported(mark{}, imageref.Reference{})); err != nil || diff != "" {
		t.Errorf("%v, marks (-want +got):\n%s", err, diff)
	}
	pinned, err := pinnedIn(f.path())
	want := []string{"site.example/*", "r.example/app@" + one.String(), "r.example/app:v1", "r.example/pause@" + two.String()}
	if err != nil || pinned == nil {
		t.Fatal("CRI-O finds nothing to pin:", err)
	}
	if diff := cmp.Diff(want, *pinned); diff != "" {
		t.Errorf("pinned images (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := f.write(nil); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(f.dir); err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v; want the others' two files", left, err)
	}
}

// TestUnpinnedOverridesNothing: a file that pins nothing does not have the setting, which
// would undo what others set.
func TestUnpinnedOverridesNothing(t *testing.T) {
	t.Parallel()
	f := confFolder(t, nil)
	if err := f.write(marks{ref(t, "r.example/app:v1"): {managed: true}}); err != nil {
		t.Fatal(err)
	}
	if pinned, err := pinnedIn(f.path()); pinned != nil || err != nil {
		t.Errorf("pinned = %v, %v, want no setting", pinned, err)
	}
}

func TestBrokenConfigurationOfOthersIsSaid(t *testing.T) {
	t.Parallel()
	f := confFolder(t, map[string]string{"10-site.conf": "pinned_images = ["})
	if err := f.write(marks{ref(t, "r.example/app:v1"): {pinned: true}}); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(f.path()); !os.IsNotExist(err) {
		t.Errorf("a file was written: %v", err)
	}
}

func TestCatches(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]bool{
		"Name:\tcrio\nSigCgt:\tfffffffd7fc1feff\n": true,
		"SigCgt:\t0000000000000001\n":              true,
		"SigCgt:\t0000000000000002\n":              false,
		"SigIgn:\t0000000000000001\n":              false,
		"":                                         false,
	} {
		if got := catches(status, unix.SIGHUP); got != want {
			t.Errorf("%q handles SIGHUP: %v, want %v", status, got, want)
		}
	}
}
