package local

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"

	"edgecache.dev/test/lab/omit"
)

// TestWithoutAFile: where no socket can be made in the state directory the agent is asked all
// the same, also after one that left its own behind there.
func TestWithoutAFile(t *testing.T) {
	t.Parallel()
	left := t.TempDir()
	old, err := net.Listen("unix", filepath.Join(left, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	if unix, ok := old.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"no directory": filepath.Join(t.TempDir(), "none"), "one that was left": left} {
		listener, err := net.Listen("unix", unnamed(dir))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: Handler(sample)}
		go func() { _ = server.Serve(guarded{listener}) }()
		if got, err := Ask(t.Context(), dir); err != nil || got.Node != "node-1" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if _, err := Ask(t.Context(), dir); !errors.Is(err, ErrNoAgent) {
			t.Errorf("%s, after the agent has ended: %v", name, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "none")
	for range 2 {
		stop, err := Serve(t.Context(), dir, Handler(sample))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Ask(t.Context(), dir); err != nil {
			t.Error(err)
		}
		stop()
	}
}

// TestStrangersAreNotAnswered: whoever connects to a socket without a file is root, or the user
// of the agent.
func TestStrangersAreNotAnswered(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		omit.Test(t, "only root can be somebody else")
	}
	dir := filepath.Join(t.TempDir(), "none")
	stop, err := Serve(t.Context(), dir, Handler(sample))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for user, answered := range map[uintptr]bool{0: true, 65534: false} {
		if got, err := askAs(user, unnamed(dir)); err != nil || (got != "") != answered {
			t.Errorf("as user %d: %q, %v, want an answer: %t", user, got, err, answered)
		}
	}
}

// askAs asks as another user, in a thread of its own that ends with that.
func askAs(user uintptr, address string) (answer string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		goruntime.LockOSThread() // and never unlocked
		keep := ^uintptr(0)
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, user, keep); errno != 0 {
			err = errno
			return
		}
		fd, serr := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if serr != nil {
			err = serr
			return
		}
		defer func() { _ = syscall.Close(fd) }()
		if err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: address}); err != nil {
			return
		}
		_, _ = syscall.Write(fd, []byte("GET /status HTTP/1.0\r\n\r\n")) // who is not answered may find it closed
		b := make([]byte, 100)
		n, _ := syscall.Read(fd, b)
		answer = string(b[:max(n, 0)])
	}()
	<-done
	return answer, err
}

// TestHealthy tells one that is not well from one that is, and from none.
func TestHealthy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Healthy(t.Context(), dir); !errors.Is(err, ErrNoAgent) {
		t.Errorf("no agent: %v", err)
	}
	var sick error
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick != nil {
			http.Error(w, sick.Error(), http.StatusServiceUnavailable)
		}
	})
	stop, err := Serve(t.Context(), dir, mux)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := Healthy(t.Context(), dir); err != nil {
		t.Errorf("a healthy agent: %v", err)
	}
	sick = errors.New("the loop is stuck")
	if err := Healthy(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "the loop is stuck") {
		t.Errorf("a sick agent: %v", err)
	}
}
