package realtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/test/lab/omit"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/toolchain"
)

// service is one program of a runtime other than containerd.
type service struct {
	process *process.Process
}

// workshop makes a folder for a runtime, with the lab's programs that it needs and those
// that the machine must have. The path is short: t.TempDir is too long for a socket.
func workshop(t *testing.T, name string, programs, installed []string) (dir string, tools *toolchain.Toolchain) {
	t.Helper()
	if os.Geteuid() != 0 {
		omit.Test(t, "%s needs root to unpack images", name)
	}
	for _, program := range installed {
		if _, err := exec.LookPath(program); err != nil {
			omit.Test(t, "%s needs %s, which is not installed (apt-get install %s)", name, program, program)
		}
	}
	tools, err := toolchain.Here(t.Output())
	if err == nil {
		err = tools.Lab(t.Context(), programs...)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err = os.MkdirTemp("", "edgecache-"+name+"-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing %s: %v", name, err)
		}
	})
	return dir, tools
}

// serve runs a program in namespaces of its own until the test ends. Its mounts are seen
// and kept by nobody else.
func serve(t *testing.T, name, dir string, env []string, argv ...string) *service {
	t.Helper()
	const script = `mount --make-rprivate / && mount -t proc proc /proc && exec "$@"`
	p, err := process.Start(process.Host{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}, process.Command{
		Name: name, Argv: append([]string{"/bin/sh", "-c", script, "sh"}, argv...), Log: filepath.Join(dir, name+".log"),
		Env: append(process.CleanEnv(), env...),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &service{process: p}
	t.Cleanup(func() {
		if t.Failed() {
			tail, _ := process.Tail(p.Log(), 15)
			t.Logf("%s: %s", name, tail)
		}
		if err := p.Kill(); err != nil {
			t.Errorf("ending %s: %v", name, err)
		}
	})
	return s
}

// awaitReady waits until a question is answered.
func (s *service) awaitReady(t *testing.T, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.process.WaitReady(ctx, ask); err != nil {
		t.Fatal(err)
	}
}

// dial connects to a CRI socket, as the kubelet would.
func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// askImages asks a CRI socket for its file systems: what serves images answers.
func askImages(conn grpc.ClientConnInterface) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := api.NewImageServiceClient(conn).ImageFsInfo(ctx, &api.ImageFsInfoRequest{})
		return err
	}
}

// write puts files into a folder, and makes folders of names that end in a slash.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
