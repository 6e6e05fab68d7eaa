package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/leftover"
	"edgecache.dev/test/lab/toolchain"
	"edgecache.dev/test/product"
)

const (
	// upTimeout is enough for a lab to come up on a machine that is busy with other tests.
	upTimeout = 4 * time.Minute
	// goneTimeout is how long the kernel and the janitor may take to clear a killed lab away.
	goneTimeout = 3 * time.Minute
)

// output collects what a command prints while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// lab is a lab up in a process of its own, with a temporary folder of its own.
type lab struct {
	*exec.Cmd
	out    *output
	tmp    string
	exited chan struct{}
	err    error // how it exited; valid when exited is closed
}

// upAs starts "lab up" with arguments, as the given user if that is not nil.
func upAs(t *testing.T, user *syscall.Credential, args ...string) *lab {
	t.Helper()
	tools, err := toolchain.Here(os.Stderr)
	must(t, err)
	// The command finds everything built: to build takes long, and another user cannot.
	must(t, tools.Lab(t.Context(), layoutBinaries()...))
	must(t, product.Build(t.Context(), tools, false))
	path, err := tools.LabCommand(t.Context())
	must(t, err)
	// Not t.TempDir: sockets want short paths.
	tmp, err := os.MkdirTemp("/tmp", "lab") //nolint:usetesting // see above
	must(t, err)
	l := &lab{Cmd: exec.Command(path, append([]string{"up", "--controller-manager=false", "--scheduler=false"}, args...)...),
		out: &output{}, tmp: tmp, exited: make(chan struct{})}
	l.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp)
	if user == nil {
		l.Env = append(l.Env, goCaches(t)...)
	} else {
		l.Args = append(l.Args, "--edgecache=false") // it asks the go command whether its programs are up to date
		l.Dir = checkoutForAll(t, tools)
		l.Path = filepath.Join(l.Dir, ".cache", "bin", "lab")
	}
	l.Stdout, l.Stderr, l.SysProcAttr = l.out, l.out, &syscall.SysProcAttr{Credential: user}
	if user != nil {
		must(t, os.Chown(tmp, int(user.Uid), int(user.Gid)))
	}
	must(t, l.Start())
	go func() { l.err = l.Wait(); close(l.exited) }()
	t.Cleanup(func() {
		// It has mostly ended by itself.
		_ = l.Process.Kill()
		<-l.exited
		must(t, os.RemoveAll(tmp))
	})
	return l
}

func layoutBinaries() []string { return []string{"etcd", "registry", "kube-apiserver", "kubectl"} }

// checkoutForAll makes a folder that the lab takes for this checkout, with all that it needs built, for users who cannot
// read the checkout itself.
func checkoutForAll(t *testing.T, tools *toolchain.Toolchain) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lab") //nolint:usetesting // the folders above t.TempDir are for this user alone
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	const binaries = "test/lab/binaries"
	files := []string{"go.mod", binaries + "/go.mod", binaries + "/go.sum", ".cache/bin/lab"}
	for _, name := range layoutBinaries() {
		files = append(files, ".cache/bin/"+name, ".cache/bin/."+name+".stamp")
	}
	for _, file := range files {
		to := filepath.Join(dir, file)
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		must(t, copyFile(filepath.Join(tools.Root(), file), to))
	}
	return dir
}

// copyFile copies a file, with the rights to read and run it for all.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// goCaches makes a command with another home folder use the go command's caches of this one.
func goCaches(t *testing.T) []string {
	t.Helper()
	dirs, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE", "GOMODCACHE").Output()
	must(t, err)
	lines := strings.Fields(string(dirs))
	return []string{"GOCACHE=" + lines[0], "GOMODCACHE=" + lines[1]}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until the command has printed text.
func (l *lab) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.After(upTimeout); !strings.Contains(l.out.String(), text); {
		select {
		case <-l.exited:
			t.Fatalf("lab up ended with %v:\n%s", l.err, l.out)
		case <-deadline:
			t.Fatalf("lab up does not get to print %q:\n%s", text, l.out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ids returns the identities of the labs that the command holds.
func (l *lab) ids(t *testing.T) []string {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(l.tmp, "edgecache-labs-*", "*.lab"))
	must(t, err)
	var ids []string
	for _, entry := range entries {
		ids = append(ids, strings.TrimSuffix(filepath.Base(entry), ".lab"))
	}
	return ids
}

// awaitGone waits until nothing is left of the labs, and fails with what is.
func (l *lab) awaitGone(t *testing.T, ids []string) {
	t.Helper()
	if len(ids) != 1 {
		t.Fatalf("%d labs, want one", len(ids))
	}
	for deadline := time.Now().Add(goneTimeout); ; time.Sleep(100 * time.Millisecond) {
		left := l.traces(t, ids[0])
		if len(left) == 0 && len(l.ids(t)) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left of the lab:\n%s", strings.Join(left, "\n"))
		}
	}
}

// traces lists what is there of the lab.
func (l *lab) traces(t *testing.T, id string) []string {
	t.Helper()
	found, err := leftover.Of(filepath.Join(l.tmp, fmt.Sprintf("edgecache-labs-%d", l.uid()), id), id)
	must(t, err)
	return found
}

// expectTraces fails if one of the kinds is not among the traces of a lab that is alive: then looking for what is left of
// it would find nothing either.
func (l *lab) expectTraces(t *testing.T, id string, kinds ...string) {
	t.Helper()
	found := l.traces(t, id)
	for _, kind := range kinds {
		if !slices.ContainsFunc(found, func(trace string) bool { return strings.HasPrefix(trace, kind) }) {
			t.Errorf("a living lab shows no %s:\n%s", kind, strings.Join(found, "\n"))
		}
	}
}

func (l *lab) uid() int {
	if user := l.SysProcAttr.Credential; user != nil {
		return int(user.Uid)
	}
	return os.Getuid()
}

func TestInterruptedTheLabRemovesItself(t *testing.T) {
	t.Parallel()
	l := upAs(t, nil, "--nodes", "2", "--sites", "2")
	l.await(t, "^C removes everything")
	kubeconfig := regexp.MustCompile(`KUBECONFIG=(\S+)`).FindStringSubmatch(l.out.String())
	if kubeconfig == nil {
		t.Fatalf("no kubeconfig is printed:\n%s", l.out)
	}
	kubectl := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(l.Path), "kubectl"), "get", "nodes", "-L", "edgecache.dev/site")
	kubectl.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig[1])
	nodes, err := kubectl.CombinedOutput()
	if err != nil || !regexp.MustCompile(`node-2\s+Ready\s.*site-2`).Match(nodes) {
		t.Errorf("kubectl get nodes: %v\n%s", err, nodes)
	}
	ids := l.ids(t)
	must(t, l.Process.Signal(os.Interrupt))
	<-l.exited
	if l.err != nil {
		t.Errorf("lab up ended with %v:\n%s", l.err, l.out)
	}
	l.awaitGone(t, ids)
}

func TestAKilledLayoutLabLeavesNothing(t *testing.T) {
	t.Parallel()
	l := upAs(t, nil, "--nodes", "2")
	l.await(t, "^C removes everything")
	ids := l.ids(t)
	l.expectTraces(t, ids[0], "process", "folder /tmp")
	must(t, l.Process.Kill())
	l.awaitGone(t, ids)
}

func TestALabKilledWhileItStartsLeavesNothing(t *testing.T) {
	t.Parallel()
	l := upAs(t, nil, "--nodes", "2")
	l.await(t, "etcd is ready")
	ids := l.ids(t)
	must(t, l.Process.Kill())
	l.awaitGone(t, ids)
}

func TestALabInterruptedWhileItStartsLeavesNothing(t *testing.T) {
	t.Parallel()
	l := upAs(t, nil, "--nodes", "2")
	l.await(t, "etcd is ready")
	ids := l.ids(t)
	must(t, l.Process.Signal(syscall.SIGTERM))
	<-l.exited
	if exit, ok := errors.AsType[*exec.ExitError](l.err); !ok || exit.ExitCode() != 1 || !strings.Contains(l.out.String(), "lab: interrupted") {
		t.Errorf("lab up ended with %v:\n%s", l.err, l.out)
	}
	l.awaitGone(t, ids)
}

func TestALayoutLabNeedsNoPrivileges(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("this user has none, so the other tests show it")
	}
	l := upAs(t, &syscall.Credential{Uid: 65534, Gid: 65534}, "--nodes", "1")
	l.await(t, "^C removes everything")
	ids := l.ids(t)
	must(t, l.Process.Kill())
	l.awaitGone(t, ids)
}

func TestAKilledContainerdLabLeavesNothing(t *testing.T) {
	t.Parallel()
	cluster.RequireRuntime(t, cluster.Containerd)
	tools, err := toolchain.Here(os.Stderr)
	must(t, err)
	must(t, tools.Lab(t.Context(), toolchain.Names()...))
	l := upAs(t, nil, "--nodes", "2", "--runtime", "containerd")
	l.await(t, "^C removes everything")
	ids := l.ids(t)
	// A pod, so that there are containers, shims and mounts to be left.
	manifests, err := filepath.Glob(filepath.Join(l.tmp, "edgecache-labs-0", ids[0], "nodes", "node-1", "manifests"))
	must(t, err)
	registry := regexp.MustCompile(`registry +(\S+)`).FindStringSubmatch(l.out.String())[1]
	pod := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: c, image: %q}]\n", registry+"/lab/pause:1")
	must(t, os.WriteFile(filepath.Join(manifests[0], "pod.yaml"), []byte(pod), 0o600))
	awaitContainers(t, ids[0])
	l.expectTraces(t, ids[0], "process", "mount", "network device", "folder /sys/fs/cgroup", "folder /tmp")
	must(t, l.Process.Kill())
	l.awaitGone(t, ids)
}

// awaitContainers waits until the lab's machine runs containers, which shows in its control groups.
func awaitContainers(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	for {
		groups, err := filepath.Glob("/sys/fs/cgroup/*/edgecache-lab-" + id + "/node-1/k8s.io/*")
		must(t, err)
		unified, err := filepath.Glob("/sys/fs/cgroup/edgecache-lab-" + id + "/node-1/k8s.io/*")
		must(t, err)
		if len(groups)+len(unified) >= 2 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("no container runs")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestFlagsAreChecked(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"up", "--runtime", "docker"}, {"up", "x"}, {"build", "no-such-binary"}, {"janitor"}, {"capsule"}} {
		cmd := newCommand()
		cmd.SetArgs(args)
		cmd.SetOut(&output{})
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("lab %s succeeded", strings.Join(args, " "))
		}
	}
}
