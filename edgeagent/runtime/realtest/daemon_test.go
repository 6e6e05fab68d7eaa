package realtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/containerd"
	"edgecache.dev/edgeagent/runtime/runtimetest"
	"edgecache.dev/test/lab/omit"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/toolchain"
)

func TestMain(m *testing.M) {
	if err := runtimetest.Agent(func(socket, hosts string) (runtime.Driver, error) {
		return containerd.New(containerd.Options{Address: socket, Source: fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{hosts}})})
	}); err != nil {
		panic(err)
	}
	// The thread that started a child is kept on purpose (test/lab/process).
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("edgecache.dev/test/lab/process.(*child).own"))
}

const config = `version = 3
root = %[1]q
state = %[2]q
[grpc]
address = %[3]q
[plugins.'io.containerd.cri.v1.images']
snapshotter = %[6]q
discard_unpacked_layers = %[5]t
%[8]s
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = %[4]q
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
conf_dir = %[4]q
[plugins.'io.containerd.nri.v1.nri']
disable = true
%[7]s`

// daemon is a containerd.
type daemon struct {
	dir     string
	process *process.Process
	client  *client.Client // the test's own hand
}

func (d *daemon) socket() string   { return filepath.Join(d.dir, "s") }
func (d *daemon) hostsDir() string { return filepath.Join(d.dir, "certs.d") }

// options of a daemon.
type options struct {
	discardLayers bool   // throw layers away once they are unpacked
	snapshotter   string // default overlayfs
	images        string // more settings of CRI's images
	more          string // tables at the end of the configuration
	dir           string // where it keeps everything; default a temporary directory
}

// shortDir makes a temporary directory. That of t.TempDir is too long a path for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "edgecache-containerd-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs a containerd until the test ends.
func start(t *testing.T, o options) *daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		omit.Test(t, "containerd needs root to unpack images")
	}
	tools, err := toolchain.Here(t.Output())
	if err == nil {
		err = tools.Lab(t.Context(), "containerd")
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := o.dir
	if dir == "" {
		dir = shortDir(t)
	}
	d := &daemon{dir: dir}
	t.Cleanup(func() { d.remove(t) })
	text := fmt.Sprintf(config, filepath.Join(dir, "root"), filepath.Join(dir, "state"), d.socket(), d.hostsDir(),
		o.discardLayers, cmp.Or(o.snapshotter, "overlayfs"), o.more, o.images)
	if err := errors.Join(os.MkdirAll(d.hostsDir(), 0o755), os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	d.run(t, tools.Path("containerd"))
	return d
}

// run starts the process in namespaces of its own: mounts are seen and kept by nobody else.
func (d *daemon) run(t *testing.T, binary string) {
	t.Helper()
	script := fmt.Sprintf("mount --make-rprivate / && mount -t proc proc /proc && exec %s --config %s/config.toml", binary, d.dir)
	var err error
	d.process, err = process.Start(process.Host{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}, process.Command{
		Name: "containerd", Argv: []string{"/bin/sh", "-c", script}, Log: filepath.Join(d.dir, "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if d.client, err = client.New(d.socket(), client.WithDefaultNamespace("k8s.io")); err != nil {
		t.Fatal(err)
	}
	d.awaitReady(t)
}

// awaitReady waits until containerd serves CRI.
func (d *daemon) awaitReady(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := d.process.WaitReady(ctx, func(ctx context.Context) error {
		_, err := d.cri().ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// remove ends containerd and what it has on disk.
func (d *daemon) remove(t *testing.T) {
	var errs []error
	if d.client != nil {
		errs = append(errs, d.client.Close())
	}
	if d.process != nil {
		if t.Failed() {
			tail, _ := process.Tail(d.process.Log(), 15)
			t.Logf("containerd: %s", tail)
		}
		errs = append(errs, d.process.Kill())
	}
	if err := errors.Join(append(errs, os.RemoveAll(d.dir))...); err != nil {
		t.Errorf("removing containerd: %v", err)
	}
}

// kill is kill -9. Nothing that containerd had in memory survives.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// restart starts containerd again on the same directories.
func (d *daemon) restart(t *testing.T) {
	t.Helper()
	if err := d.process.Restart(); err != nil {
		t.Fatal(err)
	}
	d.awaitReady(t)
}

func (d *daemon) cri() cri.ImageServiceClient {
	conn, _ := d.client.Conn().(grpc.ClientConnInterface)
	return cri.NewImageServiceClient(conn)
}

// record gives an image record, nil when there is none.
func (d *daemon) record(t *testing.T, name string) *images.Image {
	t.Helper()
	r, err := d.client.ImageService().Get(t.Context(), name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func (d *daemon) name(t *testing.T, name imageref.Reference, dg digest.Digest) {
	t.Helper()
	target := d.record(t, name.WithDigest(dg).String())
	if target == nil {
		all, err := d.client.ImageService().List(t.Context(), fmt.Sprintf("target.digest==%q", dg))
		if err != nil || len(all) == 0 {
			t.Fatalf("no record of %s: %v", dg, err)
		}
		target = &all[0]
	}
	if _, err := d.client.ImageService().Create(t.Context(), images.Image{Name: name.String(), Target: target.Target}); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) unname(t *testing.T, name imageref.Reference) {
	t.Helper()
	if err := d.client.ImageService().Delete(t.Context(), name.String()); err != nil {
		t.Fatal(err)
	}
}

// damage deletes a blob from the content store.
func (d *daemon) damage(t *testing.T, dg digest.Digest) {
	t.Helper()
	if err := d.client.ContentStore().Delete(t.Context(), dg); err != nil {
		t.Fatal(err)
	}
	d.collect(t)
}

// collect lets the garbage collector run: containerd answers when it has.
func (d *daemon) collect(t *testing.T) {
	t.Helper()
	l, err := d.client.LeasesService().Create(t.Context(), leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.client.LeasesService().Delete(t.Context(), l, leases.SynchronousDelete); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) has(t *testing.T, dg digest.Digest) bool {
	t.Helper()
	_, err := d.client.ContentStore().Info(t.Context(), dg)
	if err != nil && !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	return err == nil
}

// status is what the kubelet sees of an image, nil when it sees none.
func (d *daemon) status(t *testing.T, name string) *cri.Image {
	t.Helper()
	resp, err := d.cri().ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetImage()
}

func (d *daemon) pinned(t *testing.T, name imageref.Reference) bool {
	t.Helper()
	return d.status(t, name.String()).GetPinned()
}
