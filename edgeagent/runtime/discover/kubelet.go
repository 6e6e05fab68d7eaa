package discover

import (
	"os"
	"path/filepath"
	"regexp"

	"sigs.k8s.io/yaml"
)

// Where the kubelet is told its endpoint, the first that says it counts: kubeadm writes
// what is of one node beside the configuration of all, and older ones into flags.
const (
	kubeletInstance = "/var/lib/kubelet/instance-config.yaml"
	kubeletConfig   = "/var/lib/kubelet/config.yaml"
	kubeletFlags    = "/var/lib/kubelet/kubeadm-flags.env"
)

var endpointFlag = regexp.MustCompile(`--container-runtime-endpoint[= ]"?([^\s"']+)`)

// kubeletEndpoint gives what the kubelet's configuration says of its runtime, "" where that
// cannot be known. A file that cannot be read or is damaged says nothing.
func kubeletEndpoint(root string) string {
	// Flags win over files in the kubelet.
	if text, err := os.ReadFile(filepath.Join(root, kubeletFlags)); err == nil {
		if m := endpointFlag.FindSubmatch(text); m != nil {
			return string(m[1])
		}
	}
	for _, file := range []string{kubeletInstance, kubeletConfig} {
		var c struct {
			Endpoint string `json:"containerRuntimeEndpoint"`
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err == nil && yaml.Unmarshal(text, &c) == nil && c.Endpoint != "" {
			return c.Endpoint
		}
	}
	return ""
}
