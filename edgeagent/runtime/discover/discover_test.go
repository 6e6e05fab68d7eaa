package discover

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree is a root with sockets and files. Its path is short: sockets' paths are bounded.
func tree(t *testing.T, sockets []string, files map[string]string) string {
	t.Helper()
	root, err := os.MkdirTemp("", "d") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	for _, s := range sockets {
		listen(t, filepath.Join(root, s))
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func listen(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

const (
	containerdSocket = "/run/containerd/containerd.sock"
	k3sSocket        = "/run/k3s/containerd/containerd.sock"
	crioSocket       = "/run/crio/crio.sock"
	dockerSocket     = "/run/cri-dockerd.sock"
)

func TestFind(t *testing.T) {
	t.Parallel()
	says := func(socket string) map[string]string {
		return map[string]string{kubeletConfig: "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: unix://" + socket + "\n"}
	}
	for name, tc := range map[string]struct {
		sockets []string
		files   map[string]string
		only    Driver
		want    string // driver and socket
		err     string
		none    bool
	}{
		"containerd":         {sockets: []string{containerdSocket}, want: "containerd " + containerdSocket},
		"k3s and RKE2":       {sockets: []string{k3sSocket}, want: "containerd " + k3sSocket},
		"k0s":                {sockets: []string{"/run/k0s/containerd.sock"}, want: "containerd /run/k0s/containerd.sock"},
		"MicroK8s":           {sockets: []string{"/var/snap/microk8s/common/run/containerd.sock"}, want: "containerd /var/snap/microk8s/common/run/containerd.sock"},
		"CRI-O":              {sockets: []string{crioSocket}, want: "cri " + crioSocket},
		"CRI-O below /var":   {sockets: []string{"/var" + crioSocket}, want: "cri /var" + crioSocket},
		"cri-dockerd":        {sockets: []string{dockerSocket}, want: "cri " + dockerSocket},
		"k3s with Docker":    {sockets: []string{"/run/k3s/cri-dockerd/cri-dockerd.sock"}, want: "cri /run/k3s/cri-dockerd/cri-dockerd.sock"},
		"containerd as CRI":  {sockets: []string{containerdSocket}, only: CRI, want: "cri " + containerdSocket},
		"nothing":            {err: "looked for " + containerdSocket, none: true},
		"no socket":          {files: map[string]string{containerdSocket: ""}, err: "looked for", none: true},
		"another than asked": {sockets: []string{crioSocket}, only: Containerd, err: "looked for", none: true},
		"one of two":         {sockets: []string{containerdSocket, crioSocket}, only: Containerd, want: "containerd " + containerdSocket},
		"two":                {sockets: []string{containerdSocket, dockerSocket}, err: "set --runtime-endpoint to one of " + containerdSocket + ", " + dockerSocket},
		"two, the kubelet says": {
			sockets: []string{containerdSocket, dockerSocket}, files: says(dockerSocket), want: "cri " + dockerSocket,
		},
		"a name of the user's own": {sockets: []string{"/srv/s"}, files: says("/srv/s"), want: "containerd /srv/s"},
		"the kubelet's own place":  {sockets: []string{"/srv/containerd.sock"}, files: says("/srv/containerd.sock"), want: "containerd /srv/containerd.sock"},
		"the kubelet's is away":    {sockets: []string{containerdSocket}, files: says(crioSocket), err: "configured for " + crioSocket, none: true},
		"the kubelet's is no containerd": {
			sockets: []string{crioSocket}, files: says(crioSocket), only: Containerd, err: "set --runtime to cri",
		},
		"kubeadm's flags": {
			sockets: []string{containerdSocket, crioSocket}, want: "cri " + crioSocket,
			files: map[string]string{kubeletFlags: `KUBELET_KUBEADM_ARGS="--v=2 --container-runtime-endpoint=unix://` + crioSocket + ` --x"`},
		},
		"kubeadm's file for the node": {
			sockets: []string{containerdSocket, crioSocket}, want: "cri " + crioSocket,
			files: map[string]string{kubeletInstance: "containerRuntimeEndpoint: " + crioSocket, kubeletConfig: "containerRuntimeEndpoint: " + containerdSocket},
		},
		"a damaged file": {sockets: []string{containerdSocket}, files: map[string]string{kubeletConfig: "\t{"}, want: "containerd " + containerdSocket},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Find(tree(t, tc.sockets, tc.files), tc.only)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || errors.Is(err, ErrNone) != tc.none {
					t.Errorf("error = %v, want %q, for now: %v", err, tc.err, tc.none)
				}
				return
			}
			if err != nil || string(got.Driver)+" "+got.Socket != tc.want {
				t.Errorf("found %+v, %v, want %s", got, err, tc.want)
			}
		})
	}
}

// TestFindOnce: /run and /var/run are one folder.
func TestFindOnce(t *testing.T) {
	t.Parallel()
	root := tree(t, []string{crioSocket}, map[string]string{"/var/x": ""})
	if err := os.Symlink("../run", filepath.Join(root, "var/run")); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(root, ""); err != nil || got.Socket != crioSocket {
		t.Errorf("found %+v, %v", got, err)
	}
}

func TestHostsDirs(t *testing.T) {
	t.Parallel()
	for socket, want := range map[string]string{
		"unix://" + k3sSocket:                           "/var/lib/rancher/k3s/agent/etc/containerd/certs.d",
		"/var/snap/microk8s/common/run/containerd.sock": "/var/snap/microk8s/current/args/certs.d",
		"/run/k0s/containerd.sock":                      "/etc/containerd/certs.d",
		crioSocket:                                      "/etc/containerd/certs.d",
	} {
		got := At(socket).HostsDirs
		if got[0] != want || !slices.Contains(got, "/etc/containerd/certs.d") {
			t.Errorf("%s: %v, want %s first", socket, got, want)
		}
	}
}
