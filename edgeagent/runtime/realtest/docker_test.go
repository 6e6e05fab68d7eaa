package realtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/cri"
	"edgecache.dev/edgeagent/runtime/runtimetest"
)

// startDocker runs Docker on a containerd of the lab, with cri-dockerd before it, and gives
// the CRI socket.
func startDocker(t *testing.T) (socket string) {
	t.Helper()
	d := start(t, options{})
	dir, tools := workshop(t, "docker", []string{"dockerd", "cri-dockerd"}, []string{"runc"})
	api, socket := filepath.Join(dir, "d"), filepath.Join(dir, "s")
	write(t, dir, map[string]string{"daemon.json": "{}", "cni/": ""})
	docker := serve(t, "dockerd", dir, nil, tools.Path("dockerd"), "--config-file", filepath.Join(dir, "daemon.json"),
		"--data-root", filepath.Join(dir, "root"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--host", "unix://"+api, "--containerd", d.socket(), "--containerd-namespace", "moby", "--containerd-plugins-namespace", "plugins",
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false")
	docker.awaitReady(t, func(ctx context.Context) error { return ping(ctx, api) })
	shim := serve(t, "cri-dockerd", dir, nil, tools.Path("cri-dockerd"), "--docker-endpoint", "unix://"+api,
		"--container-runtime-endpoint", "unix://"+socket, "--cri-dockerd-root-directory", filepath.Join(dir, "shim"),
		"--network-plugin=", "--cni-conf-dir", filepath.Join(dir, "cni"), "--streaming-bind-addr", "127.0.0.1:0")
	shim.awaitReady(t, askImages(dial(t, socket)))
	return socket
}

// ping asks Docker whether it is up.
func ping(ctx context.Context, socket string) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("docker says %s", resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

func TestF20DockerConformance(t *testing.T) {
	t.Parallel()
	socket := startDocker(t)
	runtimetest.Conformance(t, func(t *testing.T, s runtimetest.Setup) runtimetest.Harness {
		o := cri.Options{Address: socket, Credentials: s.Credentials}
		return runtimetest.Harness{
			Driver: newCRI(t, o),
			Reopen: func(t *testing.T) runtime.Driver { return newCRI(t, o) },
		}
	})
}
