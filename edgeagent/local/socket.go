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
	"syscall"
	"time"
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
// directory, so that a socket that is there is what an earlier one left.
func Serve(ctx context.Context, stateDir string, handler http.Handler) (stop func(), err error) {
	path := filepath.Join(stateDir, SocketName)
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
	server := &http.Server{Handler: handler, ReadHeaderTimeout: askTimeout, MaxHeaderBytes: 16 << 10}
	go func() { _ = server.Serve(listener) }() // ends with the server
	return func() { _ = errors.Join(server.Close(), os.Remove(path)) }, nil
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

// Ask asks the agent that uses a state directory. The error is ErrNoAgent when none does.
func Ask(ctx context.Context, stateDir string) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	path := filepath.Join(stateDir, SocketName)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		address, done, err := reach(path)
		if err != nil {
			return nil, err
		}
		defer done()
		return new(net.Dialer).DialContext(ctx, "unix", address)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
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
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the agent on %s: %s", path, response.Status)
	}
	var s Status
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&s); err != nil {
		return nil, fmt.Errorf("reading the agent's answer: %w", err)
	}
	return &s, nil
}
