package toolchain

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestModuleVersion(t *testing.T) {
	t.Parallel()
	const gomod = "module m\n\nrequire k8s.io/kubernetes v1.37.2\n\nrequire (\n\tgo.etcd.io/bbolt v1.5.0 // indirect\n)\n"
	for module, want := range map[string]string{
		"k8s.io/kubernetes": "v1.37.2",
		"go.etcd.io/bbolt":  "v1.5.0",
		"k8s.io/kube":       "",
	} {
		got, err := moduleVersion(gomod, module)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("moduleVersion(%s) = %q, %v; want %q", module, got, err, want)
		}
	}
}

func TestLdflagsCarryTheVersionOfTheModule(t *testing.T) {
	t.Parallel()
	const gomod = "require (\n\tk8s.io/kubernetes v1.37.2\n\tgithub.com/containerd/containerd/v2 v2.4.2\n)\n"
	for name, want := range map[string]string{
		"kubelet":    "k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37",
		"containerd": "github.com/containerd/containerd/v2/version.Version=v2.4.2",
		"etcd":       "-s -w",
	} {
		found, err := lookup([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		got, err := found[0].ldflags(gomod)
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("ldflags of %s = %q, %v; want it to contain %q", name, got, err, want)
		}
	}
}

func TestLookupNamesTheUnknown(t *testing.T) {
	t.Parallel()
	_, err := lookup([]string{"etcd", "kubelett"})
	if err == nil || !strings.Contains(err.Error(), `"kubelett" is unknown; known are etcd, registry`) {
		t.Errorf("got %v", err)
	}
}

func TestFindWalksUpToTheProductsModule(t *testing.T) {
	t.Parallel()
	tc, err := Find("../binaries", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := filepath.Abs("../../.."); tc.Root() != want {
		t.Errorf("root = %s, want %s", tc.Root(), want)
	}
	if _, err := Find(t.TempDir(), nil); err == nil {
		t.Error("a folder outside any checkout was taken for one")
	}
}

func TestTheBinariesAreToolsOfTheNestedModule(t *testing.T) {
	t.Parallel()
	tc, err := Find(".", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range Binaries() {
		gomod, _, err := tc.module(b)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(gomod, "\t"+b.ImportPath+"\n") && !strings.Contains(gomod, "tool "+b.ImportPath+"\n") {
			t.Errorf("%s (%s) is not a tool of %s/go.mod: a tidy would drop its module", b.Name, b.ImportPath, b.dir())
		}
	}
}

// checkout returns a toolchain whose checkout is a small one of its own, so that stamps can be changed.
func checkout(t *testing.T) (*Toolchain, *bytes.Buffer) {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "go.mod"), "module edgecache.dev\n\ngo 1.26\n")
	write(t, filepath.Join(root, "cmd/hello/main.go"), "package main\n\nvar version = \"none\"\n\nfunc main() { print(version) }\n")
	write(t, filepath.Join(root, binariesDir, "go.mod"), "module edgecache.dev/test/lab/binaries\n\ngo 1.26\n\nrequire k8s.io/kubernetes v1.37.2\n")
	write(t, filepath.Join(root, binariesDir, "go.sum"), "")
	out := new(bytes.Buffer)
	tc, err := Find(root, out)
	if err != nil {
		t.Fatal(err)
	}
	return tc, out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func staleNames(t *testing.T, tc *Toolchain) string {
	t.Helper()
	jobs, err := tc.stale(t.Context(), []string{"etcd", "kubelet"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, j := range jobs {
		names = append(names, j.Name)
	}
	return strings.Join(names, " ")
}

func TestABinaryIsStaleWhenItsInputsChange(t *testing.T) {
	t.Parallel()
	tc, _ := checkout(t)
	if got := staleNames(t, tc); got != "etcd kubelet" {
		t.Fatalf("nothing built: stale = %q", got)
	}
	jobs, _ := tc.stale(t.Context(), []string{"etcd", "kubelet"})
	for _, j := range jobs {
		write(t, tc.Path(j.Name), "binary")
		write(t, tc.stampPath(j.Name), j.stamp)
	}
	if got := staleNames(t, tc); got != "" {
		t.Errorf("all built: stale = %q", got)
	}
	if err := os.Remove(tc.Path("etcd")); err != nil {
		t.Fatal(err)
	}
	if got := staleNames(t, tc); got != "etcd" {
		t.Errorf("etcd removed: stale = %q", got)
	}
	write(t, filepath.Join(tc.root, binariesDir, "go.sum"), "k8s.io/kubernetes v1.37.2 h1:other\n")
	if got := staleNames(t, tc); got != "etcd kubelet" {
		t.Errorf("go.sum changed: stale = %q", got)
	}
}

func TestProductStampsLdflags(t *testing.T) {
	t.Parallel()
	tc, _ := checkout(t)
	path, err := tc.Product(t.Context(), "hello", Build{Ldflags: "-X main.version=v1"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := exec.CommandContext(t.Context(), path).CombinedOutput()
	if err != nil || string(got) != "v1" {
		t.Errorf("got %q, %v; want v1", got, err)
	}
}

func TestARunningProductCanBeRebuilt(t *testing.T) {
	t.Parallel()
	tc, _ := checkout(t)
	const main = "package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(%s) }\n"
	source := filepath.Join(tc.root, "cmd/sleeper/main.go")
	write(t, source, strings.Replace(main, "%s", "time.Hour", 1))
	path, err := tc.Product(t.Context(), "sleeper", Build{})
	if err != nil {
		t.Fatal(err)
	}
	before := stat(t, path)
	running := exec.CommandContext(t.Context(), path)
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := tc.Product(t.Context(), "sleeper", Build{}); err != nil || !os.SameFile(before, stat(t, path)) {
		t.Errorf("nothing changed and yet it was built anew (%v)", err)
	}
	write(t, source, strings.Replace(main, "%s", "0", 1))
	if _, err := tc.Product(t.Context(), "sleeper", Build{}); err != nil || os.SameFile(before, stat(t, path)) {
		t.Errorf("the source changed and it was not built anew (%v)", err)
	}
	if err := exec.CommandContext(t.Context(), path).Run(); err != nil {
		t.Errorf("the new one: %v", err)
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestAFailedBuildSaysWhatTheCompilerSaid(t *testing.T) {
	t.Parallel()
	tc, _ := checkout(t)
	write(t, filepath.Join(tc.root, "cmd/broken/main.go"), "package main\n\nfunc main() { missing() }\n")
	_, err := tc.Product(t.Context(), "broken", Build{})
	if err == nil || !strings.Contains(err.Error(), "undefined: missing") {
		t.Errorf("got %v", err)
	}
}

func TestTheLockIsWaitedForAndCancellable(t *testing.T) {
	t.Parallel()
	tc, _ := checkout(t)
	unlock, err := tc.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	if _, err := tc.lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: %v, want deadline exceeded", err)
	}
	time.AfterFunc(2*lockPoll, unlock)
	again, err := tc.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestLabBuildsOnceAndSaysSo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles a CNI plugin, which takes a while from a cold cache")
	}
	out := new(bytes.Buffer)
	tc, err := Find(".", out)
	if err != nil {
		t.Fatal(err)
	}
	tc.bin = t.TempDir()
	if err := tc.Lab(t.Context(), "loopback"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"building 1 of the lab's 17 binaries", "happens once", "[1/1] loopback: building", "[1/1] loopback: built in"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("progress lacks %q:\n%s", want, out)
		}
	}
	out.Reset()
	if err := tc.Lab(t.Context(), "loopback"); err != nil || out.Len() != 0 {
		t.Errorf("second call: %v, output %q; want neither", err, out)
	}
}
