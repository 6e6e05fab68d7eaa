package placement

import (
	"fmt"
	"slices"
	"strings"
)

// pluginWeight is the weight of ImageCacheLocality in the profiles that have it, as in the example profiles.
const pluginWeight = 3

// variant is one way to place pods: a profile of the scheduler, and what it is told.
type variant struct {
	name, what string
	plugin     bool
	disabled   string // extension point at which the plugin is left out
	args       string // further arguments
	locality   bool   // stock ImageLocality
	tells      telling
}

// everything is told where nothing is said to be left out.
var everything = telling{layers: true, speeds: true, repositories: true}

// variants are edgecache's scheduler, those that it is compared with, and itself with one term left out at a time.
func variants() []variant {
	return []variant{
		{name: "edgecache", what: "ImageCacheLocality", plugin: true, tells: everything},
		{name: "stock", what: "ImageLocality, the default profile", locality: true, tells: everything},
		{name: "none", what: "the default profile without ImageLocality", tells: everything},
		{name: "no-layers", what: "an image is one layer of its own", plugin: true, tells: telling{speeds: true, repositories: true}},
		{name: "no-in-flight", what: "not enabled at reserve", plugin: true, disabled: "reserve", tells: everything},
		{name: "no-speed", what: "nodes do not tell their speeds", plugin: true, tells: telling{layers: true, repositories: true}},
		{name: "no-uplink", what: "uplink: Node", plugin: true, args: "uplink: Node", tells: everything},
		{name: "no-fade", what: "fadeFromPercent: 100", plugin: true, args: "fadeFromPercent: 100", tells: everything},
		{name: "no-prior", what: "no tag is known to succeed another", plugin: true, tells: telling{layers: true, speeds: true}},
	}
}

// profile is the variant's part of a KubeSchedulerConfiguration.
func (v variant) profile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "- schedulerName: %s\n", v.name)
	if v.locality {
		return b.String()
	}
	b.WriteString("  plugins:\n    multiPoint:\n      disabled: [{name: ImageLocality}]\n")
	if !v.plugin {
		return b.String()
	}
	fmt.Fprintf(&b, "      enabled: [{name: ImageCacheLocality, weight: %d}]\n", pluginWeight)
	if v.disabled != "" {
		fmt.Fprintf(&b, "    %s:\n      disabled: [{name: ImageCacheLocality}]\n", v.disabled)
	}
	if v.args != "" {
		fmt.Fprintf(&b, "  pluginConfig:\n  - name: ImageCacheLocality\n    args: {%s}\n", v.args)
	}
	return b.String()
}

// schedulerConfig has a profile for each variant: one scheduler serves all of them, one after the other.
func schedulerConfig(kubeconfig string, all []variant) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nleaderElection: {leaderElect: false}\n"+
		"clientConnection: {kubeconfig: %q, qps: 1000, burst: 2000}\nprofiles:\n", kubeconfig)
	for _, v := range all {
		b.WriteString(v.profile())
	}
	return b.String()
}

// pick finds what a comma-separated list names; all of it where the list is empty.
func pick[T any](kind, list string, all []T, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var found []T
	for want := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(t T) bool { return name(t) == want })
		if i < 0 {
			var known []string
			for _, t := range all {
				known = append(known, name(t))
			}
			return nil, fmt.Errorf("--%ss: %q is unknown; known are %s", kind, want, strings.Join(known, ", "))
		}
		found = append(found, all[i])
	}
	return found, nil
}
