package lock

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/registrycheck"
)

// sum gives a digest of one letter.
func sum(letter string) string { return "sha256:" + strings.Repeat(letter, 64) }

func layers(letters string) []registrycheck.Layer {
	var all []registrycheck.Layer
	for _, l := range letters {
		all = append(all, registrycheck.Layer{Digest: sum(string(l)), Size: 100})
	}
	return all
}

var available = registrycheck.Finding{Verdict: registrycheck.Pullable, Reason: registrycheck.ReasonAvailable}

// platform has a manifest and layers by letter; 10 bytes of its size are no layers'.
func platform(name, manifest, of string) registrycheck.Platform {
	p := registrycheck.Platform{Platform: name, Finding: available, Digest: sum(manifest), Layers: layers(of)}
	p.Size = 10 + distinct(p.Layers)
	return p
}

func result(reference, digest string, of ...registrycheck.Platform) registrycheck.Result {
	return registrycheck.Result{Reference: reference, Finding: available, Digest: sum(digest), Platforms: of}
}

func mustLock(t *testing.T, results ...registrycheck.Result) File {
	t.Helper()
	f, err := New(results)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestThereAndBack: what is written is read, and does not depend on the order of checks.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	results := []registrycheck.Result{
		result("nginx:1.27", "a", platform("linux/arm64", "b", "01"), platform("linux/amd64", "c", "2")),
		result("registry.example/app:v1", "d", platform("linux/amd64", "d", "3")),
		result("docker.io/library/nginx:1.27", "a", platform("linux/amd64", "c", "2"), platform("linux/arm/v7", "e", "")),
	}
	path := filepath.Join(t.TempDir(), "images.lock")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := mustLock(t, results...)
	if err := want.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read (-written +read):\n%s", diff)
	}
	slices.Reverse(results)
	if diff := cmp.Diff(want, mustLock(t, results...)); diff != "" {
		t.Errorf("in another order (-want +got):\n%s", diff)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/images.lock")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		golden, err = text, os.WriteFile("testdata/images.lock", text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), string(text)); diff != "" {
		t.Errorf("testdata/images.lock (-want +got), UPDATE_GOLDEN=1 writes it anew:\n%s", diff)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOnlyPullableIsLocked(t *testing.T) {
	t.Parallel()
	bad := registrycheck.Result{Reference: "a", Finding: registrycheck.Finding{Verdict: registrycheck.Inconclusive, Reason: registrycheck.ReasonTimeout}}
	if _, err := New([]registrycheck.Result{result("b", "b"), bad}); err == nil || !strings.Contains(err.Error(), "a is Inconclusive (Timeout)") {
		t.Errorf("error %v", err)
	}
	if _, err := New([]registrycheck.Result{result("a", "a"), result("a:latest", "b")}); err == nil || !strings.Contains(err.Error(), "check again") {
		t.Errorf("a tag that moved meanwhile: error %v", err)
	}
	if f := mustLock(t); f.Images == nil {
		t.Error("a lock of nothing has no list")
	}
}

func TestWhatIsReadIsValidated(t *testing.T) {
	t.Parallel()
	head := `{"apiVersion":"` + APIVersion + `","kind":"ImageLock","images":[`
	image := func(fields string) string { return head + fields + "]}" }
	good := `{"reference":"a","digest":"` + sum("a") + `"`
	tests := map[string]struct{ text, want string }{
		"not JSON":       {"{", "not JSON or YAML"},
		"other kind":     {`{"kind":"Pod"}`, `apiVersion "" and kind "Pod" are not those of a lock`},
		"bad reference":  {image(`{"reference":"A"}`), "images[0].reference"},
		"bad digest":     {image(`{"reference":"a","digest":"x"}`), `images[0].digest: "x" is no digest`},
		"twice":          {image(good + "}," + strings.Replace(good, `"a"`, `"docker.io/library/a"`, 1) + "}"), "is there twice"},
		"bad platform":   {image(good + `,"platforms":[{"platform":"a b"}]}`), "images[0].platforms[0].platform"},
		"negative size":  {image(good + `,"platforms":[{"platform":"linux/amd64","size":-1}]}`), "images[0].platforms[0].size"},
		"bad layer":      {image(good + `,"platforms":[{"platform":"linux/amd64","layers":[{"digest":"y"}]}]}`), "images[0].platforms[0].layers[0].digest"},
		"negative layer": {image(good + `,"platforms":[{"platform":"linux/amd64","layers":[{"digest":"` + sum("b") + `","size":-5}]}]}`), "images[0].platforms[0].layers[0].size"},
		"no manifest":    {image(good + `,"platforms":[{"platform":"linux/amd64"}]}`), "images[0].platforms[0].digest"},
	}
	for name, tc := range tests {
		if _, err := Parse([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %s", name, err, tc.want)
		}
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	f := mustLock(t, result("nginx:1.27", "a", platform("linux/amd64", "b", "0")), result("gone", "a"), result("late", "a"), result("unasked", "a"))
	gone := registrycheck.Result{Reference: "gone", Finding: registrycheck.Finding{Verdict: registrycheck.NotPullable, Reason: registrycheck.ReasonNotFound}}
	late := registrycheck.Result{Reference: "late", Finding: registrycheck.Finding{Verdict: registrycheck.Inconclusive, Reason: registrycheck.ReasonTimeout}}
	lost := registrycheck.Platform{Platform: "linux/amd64", Finding: registrycheck.Finding{Verdict: registrycheck.NotPullable, Reason: registrycheck.ReasonPlatformMissing}}
	tests := map[string]struct {
		now  registrycheck.Result
		want []string
	}{
		"the same":               {result("docker.io/library/nginx:1.27", "a", platform("linux/amd64/v1", "b", "0")), nil},
		"moved":                  {result("nginx:1.27", "c", platform("linux/amd64", "b", "0")), []string{"nginx:1.27: stood for " + sum("a") + " and stands for " + sum("c") + " now"}},
		"not known":              {result("other", "c"), []string{"other: is not in the lock"}},
		"gone":                   {gone, []string{"gone: cannot be pulled any more: NotFound"}},
		"not found out":          {late, nil},
		"platform not known":     {result("nginx:1.27", "a", platform("linux/arm64", "c", "0")), []string{"nginx:1.27 linux/arm64: is not in the lock"}},
		"platform gone":          {result("nginx:1.27", "a", lost), []string{"nginx:1.27 linux/amd64: cannot be pulled any more: PlatformMissing"}},
		"platform another image": {result("nginx:1.27", "a", platform("linux/amd64", "c", "0")), []string{"nginx:1.27 linux/amd64: was " + sum("b") + " and is " + sum("c") + " now"}},
	}
	for name, tc := range tests {
		var got []string
		for _, d := range f.Verify([]registrycheck.Result{tc.now}) {
			got = append(got, d.String())
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestChanges: what nodes have is not fetched again, nor anything twice.
func TestChanges(t *testing.T) {
	t.Parallel()
	f := mustLock(t, result("base", "0", platform("linux/amd64", "1", "ab"), platform("linux/arm64", "2", "cd")), result("same", "3", platform("linux/amd64", "4", "ef")))
	tests := map[string]struct {
		what []registrycheck.Platform
		want Download
	}{
		"nothing":                          {nil, Download{}},
		"what is there":                    {[]registrycheck.Platform{platform("linux/amd64", "4", "ef")}, Download{}},
		"one layer of a new image":         {[]registrycheck.Platform{platform("linux/amd64", "5", "ab0")}, Download{Images: 1, Layers: 1, Bytes: 110}},
		"a layer of another locked image":  {[]registrycheck.Platform{platform("linux/amd64", "5", "ae")}, Download{Images: 1, Bytes: 10}},
		"a layer of another platform only": {[]registrycheck.Platform{platform("linux/arm64", "5", "ac")}, Download{Images: 1, Layers: 1, Bytes: 110}},
		"a layer twice in an image":        {[]registrycheck.Platform{platform("linux/amd64", "5", "00")}, Download{Images: 1, Layers: 1, Bytes: 110}},
		"a layer of two images":            {[]registrycheck.Platform{platform("linux/amd64", "5", "01"), platform("linux/amd64", "6", "12")}, Download{Images: 2, Layers: 3, Bytes: 320}},
		"one image twice":                  {[]registrycheck.Platform{platform("linux/amd64", "5", "0"), platform("linux/amd64", "5", "0")}, Download{Images: 1, Layers: 1, Bytes: 110}},
		"what was not found out":           {[]registrycheck.Platform{{Platform: "linux/amd64"}}, Download{}},
	}
	for name, tc := range tests {
		if diff := cmp.Diff(tc.want, f.Changes(tc.what)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPinned(t *testing.T) {
	t.Parallel()
	f := mustLock(t, result("nginx:1.27", "a", platform("linux/arm/v7", "b", "")))
	got, err := f.Images[0].Pinned()
	if want := "docker.io/library/nginx@" + sum("a"); err != nil || got != want {
		t.Errorf("pinned %s, %v, want %s", got, err, want)
	}
	if got := fmt.Sprint(f.Images[0].For()); !strings.Contains(got, "arm") {
		t.Errorf("for %s", got)
	}
}
