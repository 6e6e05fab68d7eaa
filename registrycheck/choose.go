package registrycheck

import (
	"slices"

	"github.com/containerd/platforms"

	"edgecache.dev/registrycheck/resolve"
)

// choose picks the entry of an index that a node takes, by containerd's rules: of those
// that state a platform the best that fits, the first of two equal ones. -1 for none.
func choose(entries []resolve.Entry, node platforms.Platform) int {
	best, rank := -1, platforms.Only(node)
	for i, e := range entries {
		if e.Platform == nil || !rank.Match(*e.Platform) {
			continue
		}
		if best < 0 || rank.Less(*e.Platform, *entries[best].Platform) {
			best = i
		}
	}
	return best
}

// offered gives the platforms that an index states, each once, in its order.
func offered(entries []resolve.Entry) []platforms.Platform {
	var all []platforms.Platform
	for _, e := range entries {
		if e.Platform == nil {
			continue
		}
		same := func(p platforms.Platform) bool { return platforms.Format(p) == platforms.Format(*e.Platform) }
		if !slices.ContainsFunc(all, same) {
			all = append(all, *e.Platform)
		}
	}
	return all
}

// implied gives the entries that state no platform: runtimes look into their
// configuration when no other fits.
func implied(entries []resolve.Entry) []resolve.Entry {
	var all []resolve.Entry
	for _, e := range entries {
		if e.Platform == nil {
			all = append(all, e)
		}
	}
	return all
}

// runs says whether a node can run programs for a platform. Variants do not count:
// configurations often leave them out where the index has them.
func runs(node, programs platforms.Platform) bool {
	if programs.Architecture == "" {
		return true // nobody compares it
	}
	programs.Variant = ""
	if programs.Architecture == "arm" {
		programs.Variant = "v5"
	}
	return platforms.Only(node).Match(programs)
}

// linux completes a platform that names no operating system: not that of the machine on
// which this runs.
func linux(p platforms.Platform) platforms.Platform {
	if p.OS == "" {
		p.OS = "linux"
	}
	return platforms.Normalize(p)
}

func format(all []platforms.Platform) []string {
	out := make([]string, len(all))
	for i, p := range all {
		out[i] = platforms.Format(p)
	}
	return out
}
