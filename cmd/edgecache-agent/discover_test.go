package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// serveSocket serves a socket below a root.
func serveSocket(t *testing.T, root, socket string) {
	t.Helper()
	path := filepath.Join(root, socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func shortDir(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "r") //nolint:usetesting // the paths of sockets are bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	return root
}

// TestFound: what is set counts, and what is left open is found.
func TestFound(t *testing.T) {
	t.Parallel()
	standard := []string{"/etc/containerd/certs.d", "/etc/docker/certs.d"}
	tests := map[string]struct {
		sockets []string
		set     config
		want    config
	}{
		"nothing set": {
			[]string{"/run/crio/crio.sock"}, config{},
			config{Runtime: runtimeCRI, RuntimeEndpoint: "/run/crio/crio.sock", HostsDirs: standard},
		},
		"a driver": {
			[]string{"/run/containerd/containerd.sock"}, config{Runtime: runtimeCRI},
			config{Runtime: runtimeCRI, RuntimeEndpoint: "/run/containerd/containerd.sock", HostsDirs: standard},
		},
		"a socket of one's own": {
			nil, config{RuntimeEndpoint: "unix:///srv/my-containerd.sock"},
			config{Runtime: runtimeContainerd, RuntimeEndpoint: "/srv/my-containerd.sock", HostsDirs: standard},
		},
		"folders": {
			nil, config{Runtime: runtimeCRI, RuntimeEndpoint: "/srv/x.sock", HostsDirs: []string{"/srv/hosts"}},
			config{Runtime: runtimeCRI, RuntimeEndpoint: "/srv/x.sock", HostsDirs: []string{"/srv/hosts"}},
		},
		"no runtime": {nil, config{Runtime: runtimeLayout}, config{Runtime: runtimeLayout, HostsDirs: standard}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := shortDir(t)
			for _, s := range tc.sockets {
				serveSocket(t, root, s)
			}
			got := tc.set
			err := got.found(t.Context(), root)
			if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestRuntimeStartsLater: the agent waits for a runtime, and says what it looked for when it
// is told to stop. Two of them are no reason to wait.
func TestRuntimeStartsLater(t *testing.T) {
	t.Parallel()
	root := shortDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := new(config).found(ctx, root); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "looked for /run/containerd") {
		t.Errorf("error = %v", err)
	}
	c, done := &config{}, make(chan error, 1)
	go func() { done <- c.found(t.Context(), root) }()
	serveSocket(t, root, "/run/k3s/containerd/containerd.sock")
	if err := <-done; err != nil || c.Runtime != runtimeContainerd || c.HostsDirs[0] != "/var/lib/rancher/k3s/agent/etc/containerd/certs.d" {
		t.Errorf("%v, found %+v", err, c)
	}
	serveSocket(t, root, "/run/crio/crio.sock")
	if err := new(config).found(t.Context(), root); err == nil || !strings.Contains(err.Error(), "--runtime-endpoint") {
		t.Errorf("two runtimes: %v", err)
	}
}
