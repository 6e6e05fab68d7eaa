package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"edgecache.dev/internal/brief"
)

const (
	// SocketName of the agent within its state directory.
	SocketName = "agent.sock"
	// longestPath is what a socket's address has room for.
	longestPath = 107
	// askTimeout bounds one question: the agent has the answer at hand.
	askTimeout = 10 * time.Second
	// maxAnswer bounds an answer: 3,000 images with a message each take 5 MB.
	maxAnswer = 16 << 20
)

// ErrNoAgent says that no agent answers in a state directory.
var ErrNoAgent = errors.New("no agent answers")

// Handler answers GET /status with what tell gives.
func Handler(tell func() Status) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(tell()) // who asked may have gone
	})
}

// Serve answers on the socket of a state directory until stop is called. One agent uses the
// directory, so that a socket that is there is what an earlier one left. Where none can be made
// there it answers on one without a file, which Ask finds as well.
func Serve(ctx context.Context, stateDir string, handler http.Handler) (stop func(), err error) {
	path := filepath.Join(stateDir, SocketName)
	listener, err := listen(ctx, path)
	if err != nil {
		klog.FromContext(ctx).Info("No socket in the state directory, answering edgecache-agent status without a file", "err", err)
		other, otherErr := new(net.ListenConfig).Listen(ctx, "unix", unnamed(stateDir))
		if otherErr != nil {
			return nil, errors.Join(err, fmt.Errorf("listening without a file: %w", otherErr))
		}
		listener, path = guarded{other}, ""
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: askTimeout, MaxHeaderBytes: 16 << 10}
	go func() { _ = server.Serve(listener) }() // ends with the server
	return func() {
		_ = server.Close()
		if path != "" {
			_ = os.Remove(path)
		}
	}, nil
}

// listen makes the socket in the file system.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the socket of an earlier agent: %w", err)
	}
	address, done, err := reach(path)
	if err != nil {
		return nil, err
	}
	defer done()
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // by an address that does not outlast this function
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listening on %s: %w", path, err), listener.Close())
	}
	return listener, nil
}

// reach gives an address for a socket that fits where one must: by way of an open
// directory where the path is too long. It holds until done is called.
func reach(path string) (address string, done func(), err error) {
	if len(path) <= longestPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, fmt.Errorf("opening the state directory: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { _ = dir.Close() }, nil
}

// dial connects to the agent that uses a state directory.
func dial(ctx context.Context, stateDir string) (net.Conn, error) {
	address, done, err := reach(filepath.Join(stateDir, SocketName))
	if err == nil {
		defer done()
		var conn net.Conn
		if conn, err = new(net.Dialer).DialContext(ctx, "unix", address); err == nil {
			return conn, nil
		}
	}
	conn, otherErr := new(net.Dialer).DialContext(ctx, "unix", unnamed(stateDir))
	if otherErr != nil {
		return nil, err
	}
	if stranger := known(conn); stranger != nil {
		return nil, errors.Join(err, stranger, conn.Close())
	}
	return conn, nil
}

// Ask asks the agent that uses a state directory. The error is ErrNoAgent when none does.
func Ask(ctx context.Context, stateDir string) (*Status, error) {
	answer, err := get(ctx, stateDir, "/status")
	if err != nil {
		return nil, err
	}
	var s Status
	if err := json.Unmarshal(answer, &s); err != nil {
		return nil, fmt.Errorf("reading the agent's answer: %w", err)
	}
	return &s, nil
}

// Healthy asks the agent that uses a state directory whether it is well, and gives what it
// says where it is not. The error is ErrNoAgent when none answers.
func Healthy(ctx context.Context, stateDir string) error {
	_, err := get(ctx, stateDir, "/healthz")
	return err
}

func get(ctx context.Context, stateDir, what string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	path := filepath.Join(stateDir, SocketName)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dial(ctx, stateDir)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+what, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w on %s", ErrNoAgent, path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("asking the agent on %s: permission denied: run as the user that runs the agent, mostly root", path)
	case err != nil:
		return nil, fmt.Errorf("asking the agent on %s: %w", path, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the agent's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the agent on %s: %s: %s", path, response.Status, brief.Text(strings.TrimSpace(string(answer)), maxError))
	}
	return answer, nil
}
