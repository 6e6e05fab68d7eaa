package reserve

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sigs.k8s.io/yaml"
)

const (
	// margin in percent of the capacity keeps pulls clear of what the kubelet acts on: logs
	// and containers write too.
	margin = 1
	// The kubelet's defaults: it collects images when a file system is 85 % full, and evicts
	// pods when less is available.
	defaultGCHigh        = 85
	defaultNodeFSLeast   = "10%"
	defaultImageFSLeast  = "15%"
	signalNodeFS         = "nodefs.available"
	signalImageFS        = "imagefs.available"
	maxKubeletConfigSize = 1 << 20
)

// kubeletConfig is what is understood of a KubeletConfiguration.
type kubeletConfig struct {
	ImageGCHighThresholdPercent  *int32            `json:"imageGCHighThresholdPercent"`
	EvictionHard                 map[string]string `json:"evictionHard"`
	EvictionSoft                 map[string]string `json:"evictionSoft"`
	MergeDefaultEvictionSettings *bool             `json:"mergeDefaultEvictionSettings"`
}

// Default is what a kubelet with its own defaults needs: 16 % of the capacity.
func Default() Reserve { return Reserve{Percent: 100 - defaultGCHigh + margin} }

// FromKubelet gives what keeps clear of the thresholds in a kubelet's configuration file. A
// file that is not there has the kubelet's defaults. With an error the result is Default.
func FromKubelet(path string) (Reserve, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	if err == nil && len(text) > maxKubeletConfigSize {
		err = fmt.Errorf("%d bytes, want at most %d", len(text), maxKubeletConfigSize)
	}
	var c kubeletConfig
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	var r Reserve
	if err == nil {
		r, err = ofKubelet(&c)
	}
	if err != nil {
		return Default(), fmt.Errorf("reading the kubelet's thresholds from %s: %w", path, err)
	}
	return r, nil
}

// ofKubelet keeps clear of image garbage collection and of every eviction.
func ofKubelet(c *kubeletConfig) (Reserve, error) {
	high := int32(defaultGCHigh)
	if c.ImageGCHighThresholdPercent != nil {
		high = *c.ImageGCHighThresholdPercent
	}
	all := Reserve{Percent: float64(max(0, 100-high))}
	for _, thresholds := range []map[string]string{c.hard(), c.EvictionSoft} {
		for _, signal := range []string{signalNodeFS, signalImageFS} {
			text, ok := thresholds[signal]
			if !ok {
				continue
			}
			r, err := Parse(text)
			if err != nil {
				return Reserve{}, fmt.Errorf("%s: %w", signal, err)
			}
			all = all.either(r)
		}
	}
	all.Percent += margin
	return all, nil
}

// hard gives the hard eviction thresholds. Where any is set the kubelet's defaults of the
// others do not hold, unless that is asked for.
func (c *kubeletConfig) hard() map[string]string {
	out := map[string]string{}
	if c.EvictionHard == nil || c.MergeDefaultEvictionSettings != nil && *c.MergeDefaultEvictionSettings {
		out = map[string]string{signalNodeFS: defaultNodeFSLeast, signalImageFS: defaultImageFSLeast}
	}
	for _, signal := range []string{signalNodeFS, signalImageFS} {
		if text, ok := c.EvictionHard[signal]; ok {
			out[signal] = text
		}
	}
	return out
}
