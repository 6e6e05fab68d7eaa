package machine

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// outside maps a path on a machine to the one outside.
func outside(dir, path string) string {
	for target, source := range map[string]string{"/run": "run", "/var/log": "var-log", "/var/lib": "var-lib"} {
		if rest, ok := strings.CutPrefix(path, target); ok && (rest == "" || rest[0] == '/') {
			return filepath.Join(dir, source, rest)
		}
	}
	return path
}

// shadows are the files of /proc that a machine sees differently. A kubelet tunes the kernel of the machine that it thinks
// it owns; here it finds everything tuned, and the host stays as it is.
func shadows(bootID string) map[string]string {
	return map[string]string{
		"/proc/sys/kernel/random/boot_id":     bootID,
		"/proc/sys/vm/overcommit_memory":      "1",
		"/proc/sys/vm/panic_on_oom":           "0",
		"/proc/sys/kernel/panic":              "10",
		"/proc/sys/kernel/panic_on_oops":      "1",
		"/proc/sys/kernel/keys/root_maxkeys":  "1000000",
		"/proc/sys/kernel/keys/root_maxbytes": "25000000",
	}
}

// configure writes the configuration of the machine's programs.
func (m *Machine) configure() error {
	kubelet, err := m.kubeletConfig()
	if err != nil {
		return err
	}
	cni, err := m.cniConfig()
	if err != nil {
		return err
	}
	files := map[string]string{
		m.path("containerd.toml"):                           m.containerdConfig(),
		m.path("certs.d", m.options.Registry, "hosts.toml"): hostsConfig(m.options.Registry),
		m.path("cni", "lab.conflist"):                       cni,
		m.path("kubelet.yaml"):                              kubelet,
		// One that refuses at once: looking up names in vain must not take seconds.
		m.path("resolv.conf"): "nameserver 127.0.0.1\n",
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("configuring the machine: %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("configuring the machine: %w", err)
		}
	}
	if err := os.MkdirAll(m.ManifestDir(), 0o755); err != nil {
		return fmt.Errorf("configuring the machine: %w", err)
	}
	return nil
}

// containerdConfig is containerd's configuration. Version 3, as containerd 2.4 ignores [grpc] in version 4.
func (m *Machine) containerdConfig() string {
	return fmt.Sprintf(`version = 3
root = '/var/lib/containerd'
state = '/run/containerd'

[grpc]
  address = %q

[plugins.'io.containerd.cri.v1.images']
  discard_unpacked_layers = false
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = %q
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = %q

[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE nothing may lower its oom_score_adj, and every sandbox would fail.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = %q
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [%q]
    conf_dir = %q

[plugins.'io.containerd.nri.v1.nri']
  disable = true

%s
`, containerdAddress, m.options.Pause, m.CertsDir(), runcPath(), m.options.Bin, m.path("cni"), m.options.Containerd)
}

// runcPath is where runc is: system folders are not in every user's PATH.
func runcPath() string {
	if path, err := exec.LookPath("runc"); err == nil {
		return path
	}
	return "/usr/sbin/runc"
}

// hostsConfig tells containerd to talk to the lab's registry in plain HTTP.
func hostsConfig(registry string) string {
	return fmt.Sprintf("server = \"http://%[1]s\"\n\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", registry)
}

// cniConfig connects each pod with the machine by a link of its own.
func (m *Machine) cniConfig() (string, error) {
	text, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0",
		"name":       "lab",
		"plugins": []any{map[string]any{
			"type": "ptp",
			"ipam": map[string]any{
				"type":    "host-local",
				"ranges":  []any{[]any{map[string]any{"subnet": m.options.Link.Pods().String()}}},
				"routes":  []any{map[string]any{"dst": "0.0.0.0/0"}},
				"dataDir": "/var/lib/cni/networks",
			},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("configuring the pod network: %w", err)
	}
	return string(text), nil
}

// kubeletConfig is kubelet's configuration, with the caller's fields in place of the lab's.
func (m *Machine) kubeletConfig() (string, error) {
	config := m.kubeletDefaults()
	var overrides map[string]any
	if err := yaml.Unmarshal([]byte(m.options.Kubelet), &overrides); err != nil {
		return "", fmt.Errorf("reading the kubelet's configuration: %w", err)
	}
	maps.Copy(config, overrides)
	text, err := yaml.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("writing the kubelet's configuration: %w", err)
	}
	return string(text), nil
}

func (m *Machine) kubeletDefaults() map[string]any {
	return map[string]any{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + containerdAddress,
		"staticPodPath":            m.ManifestDir(),
		"resolvConf":               m.path("resolv.conf"),
		"clusterDomain":            "cluster.local",
		"clusterDNS":               []string{m.options.ClusterDNS},
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": m.options.CAFile},
		},
		"authorization":          map[string]any{"mode": "Webhook"},
		"cgroupDriver":           "cgroupfs",
		"cgroupsPerQOS":          false,
		"enforceNodeAllocatable": []string{},
		"failCgroupV1":           false,
		"failSwapOn":             false,
		"oomScoreAdj":            0,
		"makeIPTablesUtilChains": false,
		// The machines share a disk with everything else on the host: however full that is, neither pods nor images are
		// evicted. A kubelet drops thresholds of 0% and has defaults for what is not set; at 100 it collects no images.
		"evictionHard": map[string]string{
			"memory.available": "10Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
			"imagefs.inodesFree": "0%",
		},
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  80,
		"volumeStatsAggPeriod":        "-1s",
	}
}
