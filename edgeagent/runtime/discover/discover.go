package discover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Driver is the kind of driver for a socket.
type Driver string

// Drivers.
const (
	Containerd Driver = "containerd"
	CRI        Driver = "cri"
)

// ErrNone is wrapped by Find's error while no runtime is there.
var ErrNone = errors.New("no container runtime found yet")

// Runtime is what was found.
type Runtime struct {
	Driver Driver
	// Socket is its path.
	Socket string
	// HostsDirs are folders with hosts.toml files per registry, most specific first.
	HostsDirs []string
}

// place is where a distribution has its socket.
type place struct {
	socket    string
	hostsDirs []string
}

// places are those that are looked at.
func places() []place {
	return []place{
		{socket: "/run/containerd/containerd.sock"},
		{socket: "/run/k3s/containerd/containerd.sock", hostsDirs: []string{ // RKE2 has the same socket
			"/var/lib/rancher/k3s/agent/etc/containerd/certs.d", "/var/lib/rancher/rke2/agent/etc/containerd/certs.d",
		}},
		{socket: "/run/k0s/containerd.sock"},
		{socket: "/var/snap/microk8s/common/run/containerd.sock", hostsDirs: []string{"/var/snap/microk8s/current/args/certs.d"}},
		{socket: "/run/crio/crio.sock"},
		{socket: "/var/run/crio/crio.sock"},
		{socket: "/run/cri-dockerd.sock"},
		{socket: "/var/run/cri-dockerd.sock"},
		{socket: "/run/k3s/cri-dockerd/cri-dockerd.sock"},
	}
}

// standard are the folders that everybody's registries may be in.
func standard() []string { return []string{"/etc/containerd/certs.d", "/etc/docker/certs.d"} }

// At describes a runtime whose socket is known, with or without "unix://": containerd, unless
// its name is that of another one.
func At(socket string) Runtime {
	socket = strings.TrimPrefix(socket, "unix://")
	r := Runtime{Driver: Containerd, Socket: socket}
	if name := filepath.Base(socket); strings.Contains(name, "crio") || strings.Contains(name, "docker") {
		r.Driver = CRI
	}
	for _, p := range places() {
		if p.socket == socket {
			r.HostsDirs = p.hostsDirs
		}
	}
	r.HostsDirs = slices.Concat(r.HostsDirs, standard())
	return r
}

// Find looks for a runtime below a root, usually "/". With only set, other drivers do not
// count; a containerd socket serves both.
func Find(root string, only Driver) (Runtime, error) {
	if used := kubeletEndpoint(root); used != "" {
		r := At(used)
		if !isSocket(filepath.Join(root, r.Socket)) {
			return Runtime{}, fmt.Errorf("%w: the kubelet is configured for %s, which is not there", ErrNone, r.Socket)
		}
		return r.as(only)
	}
	var found []Runtime
	var seen []os.FileInfo
	for _, p := range places() {
		info, err := os.Stat(filepath.Join(root, p.socket))
		known := func(other os.FileInfo) bool { return os.SameFile(info, other) }
		if err != nil || info.Mode()&os.ModeSocket == 0 || slices.ContainsFunc(seen, known) {
			continue
		}
		seen = append(seen, info) // /var/run is mostly the same folder as /run
		if r, err := At(p.socket).as(only); err == nil {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return Runtime{}, fmt.Errorf("%w: looked for %s", ErrNone, strings.Join(sockets(places()), ", "))
	case 1:
		return found[0], nil
	}
	return Runtime{}, fmt.Errorf("several container runtimes are there, and the kubelet's configuration does not say which one it uses: "+
		"set --runtime-endpoint to one of %s", strings.Join(names(found), ", "))
}

// as gives the runtime with the driver that is asked for.
func (r Runtime) as(only Driver) (Runtime, error) {
	if only == Containerd && r.Driver != Containerd {
		return Runtime{}, fmt.Errorf("runtime %s is not served by the driver %s: set --runtime to %s", r.Socket, only, CRI)
	}
	if only != "" {
		r.Driver = only
	}
	return r, nil
}

func sockets(all []place) (out []string) {
	for _, p := range all {
		out = append(out, p.socket)
	}
	return out
}

func names(all []Runtime) (out []string) {
	for _, r := range all {
		out = append(out, r.Socket)
	}
	return out
}

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}
