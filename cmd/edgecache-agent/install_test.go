package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"edgecache.dev/cmd/internal/settings"
	"edgecache.dev/test/lab/omit"
)

const (
	unitFile   = "/etc/systemd/system/edgecache-agent.service"
	configFile = "/etc/edgecache/agent.yaml"
	podFile    = "/etc/kubernetes/manifests/edgecache-agent.yaml"
	kubeletOf  = "/etc/kubernetes/kubelet.conf"
)

// kubeadm is the identity of a kubelet as kubeadm writes it.
const kubeadm = `{apiVersion: v1, kind: Config, current-context: c,
clusters: [{name: c, cluster: {server: "https://api.example:6443", certificate-authority: /etc/kubernetes/pki/ca.crt}}],
users: [{name: u, user: {client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem, client-key: /var/lib/kubelet/pki/kubelet-client-current.pem}}],
contexts: [{name: c, context: {cluster: c, user: u}}]}
`

// node is a root with a kubelet's files.
func node(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, name), text)
	}
	return root
}

func installed(t *testing.T, root string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newInstall()
	cmd.SetArgs(append(args, "--root", root))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func mustInstall(t *testing.T, root string, args ...string) string {
	t.Helper()
	out, err := installed(t, root, args...)
	if err != nil {
		t.Fatalf("install %q: %v\n%s", args, err, out)
	}
	return out
}

func read(t *testing.T, root, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestInstalledSettings: what is given is what the agent will go by, as run reads it.
func TestInstalledSettings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kubeconfig string // what is there
		args       []string
		want       func(*config)
	}{
		"kubeadm": {kubeletOf, nil, func(c *config) { c.Kubeconfig = kubeletOf }},
		"k3s": {"/var/lib/rancher/k3s/agent/kubelet.kubeconfig", nil, func(c *config) {
			c.Kubeconfig = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig"
		}},
		"given": {kubeletOf, []string{
			"--kubeconfig=/k", "--workers=4", "--probe-interval=2m", "--pull-windows=0 1 * * 1,3 for 4h in Europe/Lisbon",
			"--pull-windows=0 2 * * * for 1h", "--profiling", "--serve-address=", "--hosts-dirs=/a,/b", "--crio-config-dir=", "--bandwidth-limit=2Mi",
		}, func(c *config) {
			c.Kubeconfig, c.Workers, c.ProbeInterval, c.Profiling, c.ServeAddress = "/k", 4, 2*60e9, true, ""
			c.PullWindows = []string{"0 1 * * 1,3 for 4h in Europe/Lisbon", "0 2 * * * for 1h"}
			c.HostsDirs, c.CRIOConfigDir, c.BandwidthLimit = []string{"/a", "/b"}, "", "2Mi"
		}},
		"files": {kubeletOf, []string{"--manifest=/m", "--node-labels=site=lisbon,a="}, func(c *config) {
			c.Manifest, c.NodeLabels = "/m", []string{"site=lisbon", "a="}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := node(t, map[string]string{tc.kubeconfig: kubeadm})
			mustInstall(t, root, append(tc.args, "--systemd")...)
			got, want := defaults(), defaults()
			tc.want(want)
			if err := settings.Load(settings.Sources{File: filepath.Join(root, configFile)}, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || len(got.Validate()) > 0 {
				t.Errorf("settings (-want +got):\n%s\n%v", diff, got.Validate())
			}
			if info, err := os.Stat(filepath.Join(root, configFile)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode of the settings: %v, %v", info, err)
			}
			if info, err := os.Stat(filepath.Join(root, got.StateDir)); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("state directory: %v, %v", info, err)
			}
		})
	}
}

// TestInstallTwice: the second time changes nothing, edited settings stay, and uninstalling
// leaves what the agent remembers.
func TestInstallTwice(t *testing.T) {
	t.Parallel()
	root := node(t, map[string]string{kubeletOf: kubeadm})
	mustInstall(t, root, "--systemd", "--workers=3")
	first := read(t, root, configFile)
	for _, args := range [][]string{{"--systemd"}, {"--systemd", "--workers=3"}} {
		if out := mustInstall(t, root, args...); strings.Contains(out, "written") || read(t, root, configFile) != first {
			t.Errorf("%q again:\n%s", args, out)
		}
	}
	mustInstall(t, root, "--systemd", "--workers=4")
	if got := read(t, root, configFile); !strings.Contains(got, `workers: "4"`) {
		t.Errorf("settings that nobody edited: %s", got)
	}
	write(t, filepath.Join(root, configFile), "kubeconfig: /mine\nstateDir: /srv/state\n")
	if out := mustInstall(t, root, "--systemd", "--workers=5"); !strings.Contains(out, "was edited and stays") || !strings.Contains(read(t, root, unitFile), "/srv/state") {
		t.Errorf("edited settings: %s\n%s", out, read(t, root, unitFile))
	}
	if out := mustInstall(t, root, "--uninstall"); read(t, root, configFile) == "" || !strings.Contains(out, "remembers (/srv/state)") {
		t.Errorf("uninstalling with edited settings:\n%s", out)
	}
	mustInstall(t, root, "--systemd", "--force")
	if got := read(t, root, configFile); strings.Contains(got, "/mine") {
		t.Errorf("forced: %s", got)
	}
	out := mustInstall(t, root, "--systemd", "--uninstall")
	for path, stays := range map[string]bool{unitFile: false, configFile: false, "/usr/local/bin/edgecache-agent": false, "/var/lib/edgecache": true, kubeletOf: true} {
		if _, err := os.Stat(filepath.Join(root, path)); (err == nil) != stays {
			t.Errorf("%s after uninstalling: %v, stays: %v", path, err, stays)
		}
	}
	if !strings.Contains(out, "stay") || !strings.Contains(out, "to do where systemd runs: systemctl disable") {
		t.Errorf("uninstalling said:\n%s", out)
	}
}

func TestInstallDry(t *testing.T) {
	t.Parallel()
	root := node(t, map[string]string{kubeletOf: kubeadm})
	out := mustInstall(t, root, "--systemd", "--dry-run")
	if !strings.Contains(out, "ProtectSystem=strict") || !strings.Contains(out, "kubeconfig: "+kubeletOf) {
		t.Errorf("shown:\n%s", out)
	}
	for _, path := range []string{unitFile, configFile, "/usr", "/var"} {
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			t.Errorf("%s was written", path)
		}
	}
}

func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files map[string]string
		args  []string
		want  string
	}{
		"neither":         {nil, nil, "say how the agent is to be started: --systemd, or --static-pod"},
		"both":            {nil, []string{"--systemd", "--static-pod"}, "give one of them"},
		"no image":        {nil, []string{"--static-pod"}, "give --image"},
		"an image":        {nil, []string{"--systemd", "--image=a"}, "for static pods"},
		"no kubelet":      {nil, []string{"--systemd"}, "name one with --kubeconfig"},
		"files and API":   {nil, []string{"--systemd", "--manifest=/m", "--kubeconfig=/k"}, "leave out --manifest"},
		"a relative path": {nil, []string{"--systemd", "--manifest=m"}, `manifest: Invalid value: "m": must begin with /`},
		"a mistake":       {nil, []string{"--systemd", "--kubeconfig=/k", "--workers=99"}, "workers: Invalid value: 99"},
		"a mistake there": {map[string]string{configFile: "worker: 3\n"}, []string{"--systemd"}, "worker"},
		"another way":     {map[string]string{podFile: "x"}, []string{"--systemd"}, "install --static-pod --uninstall first"},
		"pod, no runtime": {map[string]string{kubeletOf: kubeadm}, []string{"--static-pod", "--image=a"}, "--runtime-endpoint"},
		"pod, no images":  {map[string]string{kubeletOf: kubeadm}, []string{"--static-pod", "--image=a", "--runtime-endpoint=/run/r.sock"}, "--image-dir"},
		"pod, not joined": {nil, []string{"--static-pod", "--image=a", "--kubeconfig=/k"}, "must have joined first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := node(t, tc.files)
			if _, err := installed(t, root, tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// TestInstalledPod: the pod sees what the agent needs, under the same paths, and no more.
func TestInstalledPod(t *testing.T) {
	t.Parallel()
	root := node(t, map[string]string{
		kubeletOf: kubeadm, "/var/lib/kubelet/config.yaml": "{}", "/var/lib/containerd/x": "", "/etc/containerd/certs.d/x": "",
	})
	mustInstall(t, root, "--static-pod", "--image=registry.example/agent:v1", "--runtime-endpoint=unix:///run/containerd/containerd.sock")
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(read(t, root, podFile)), &pod); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for i, v := range pod.Spec.Volumes {
		m := pod.Spec.Containers[0].VolumeMounts[i]
		kind := string(*v.HostPath.Type)
		if m.ReadOnly {
			kind += ", read only"
		}
		if v.Name != m.Name || v.HostPath.Path != m.MountPath {
			t.Errorf("volume %v is mounted as %v", v, m)
		}
		got[m.MountPath] = kind
	}
	want := map[string]string{
		"/var/lib/edgecache": "DirectoryOrCreate", "/etc/edgecache": "Directory, read only", "/run/containerd": "Directory, read only",
		"/var/lib/containerd": "Directory, read only", "/etc/containerd/certs.d": "Directory, read only", "/var/lib/kubelet/pki": "Directory, read only",
		kubeletOf: "File, read only", "/etc/kubernetes/pki/ca.crt": "File, read only", "/var/lib/kubelet/config.yaml": "File, read only",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	agent := pod.Spec.Containers[0]
	probe := "/usr/local/bin/edgecache-agent health --state-dir /var/lib/edgecache"
	if health := agent.LivenessProbe.Exec; !pod.Spec.HostNetwork || pod.Spec.PriorityClassName != "system-node-critical" || health == nil || strings.Join(health.Command, " ") != probe {
		t.Errorf("pod: %+v", pod.Spec)
	}
	if out := mustInstall(t, root, "--uninstall"); strings.Contains(out, "systemctl") {
		t.Errorf("uninstalling a static pod: %s", out)
	}
	if _, err := os.Stat(filepath.Join(root, podFile)); err == nil {
		t.Error("the static pod is still there")
	}
}

// TestUnitIsSystemds has systemd read the unit.
func TestUnitIsSystemds(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		omit.Test(t, "systemd-analyze is missing: %v", err)
	}
	root := node(t, map[string]string{kubeletOf: kubeadm})
	mustInstall(t, root, "--systemd", "--state-dir=/var/lib/a b%", "--runtime=layout", "--layout-dir=/srv/images")
	unit := filepath.Join(t.TempDir(), "edgecache-agent.service")
	write(t, unit, strings.ReplaceAll(read(t, root, unitFile), "/usr/local/bin/edgecache-agent", "/bin/true"))
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), unit) {
		t.Errorf("systemd-analyze verify: %v\n%s\n%s", err, out, read(t, root, unitFile))
	}
}
