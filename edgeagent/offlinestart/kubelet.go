package offlinestart

import (
	"fmt"
	"io"
	"os"
	"strings"

	"sigs.k8s.io/yaml"

	"edgecache.dev/api/imageref"
)

// Policies with which a kubelet asks registries whether a pod may use an image that is there
// (KubeletConfiguration, imagePullCredentialsVerificationPolicy). The kubelet's default spares
// images that it did not pull itself.
const (
	alwaysVerify    = "AlwaysVerify"
	verifyUnlisted  = "NeverVerifyAllowlistedImages"
	maxConfigLength = 1 << 20 // bytes; such files have some hundreds
)

// Kubelet is what the kubelet of the node asks before it starts a container.
type Kubelet struct {
	// File that this was read from.
	File string
	// Unread says why nothing is known, nil when it is.
	Unread error
	policy string
	listed []string // names that are not asked about; one that ends with /* is a prefix
}

// ReadKubelet reads the kubelet's configuration file.
func ReadKubelet(path string) Kubelet {
	k := Kubelet{File: path}
	var config struct {
		Policy string   `json:"imagePullCredentialsVerificationPolicy"`
		Listed []string `json:"preloadedImagesVerificationAllowlist"`
	}
	text, err := read(path)
	if err == nil {
		err = yaml.Unmarshal(text, &config)
	}
	if err != nil {
		k.Unread = fmt.Errorf("reading the kubelet's configuration: %w", err)
	}
	k.policy, k.listed = config.Policy, config.Listed
	return k
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxConfigLength))
}

// asks says whether the kubelet asks the registry before a pod starts from an image.
func (k *Kubelet) asks(image imageref.Reference) bool {
	switch k.policy {
	case alwaysVerify:
		return true
	case verifyUnlisted:
		return !k.lists(image.Name())
	}
	return false
}

func (k *Kubelet) lists(name string) bool {
	for _, pattern := range k.listed {
		prefix, wild := strings.CutSuffix(pattern, "*")
		listed, err := imageref.Parse(pattern)
		if wild && strings.HasPrefix(name, prefix) || !wild && err == nil && listed.Name() == name {
			return true
		}
	}
	return false
}
