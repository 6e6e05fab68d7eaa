package registrycheck

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"edgecache.dev/registrycheck/resolve"
)

// elsewhere gives the host besides the registry at which a question failed.
func elsewhere(err error) []string {
	e, ok := errors.AsType[*resolve.Error](err)
	if !ok || e.Host == "" || e.Host == e.Endpoint {
		return nil
	}
	return []string{e.Host}
}

// ofParts gives the worst finding of an image's layers, and says how many more there are.
func ofParts(findings []Finding) Finding {
	result, bad := found(ReasonAvailable, "", ""), 0
	for _, f := range findings {
		if f.Verdict != Pullable {
			bad++
		}
		if rank(f.Verdict) > rank(result.Verdict) {
			result = f
		}
	}
	if bad > 1 {
		result.Message = found(result.Reason, fmt.Sprintf("%d of %d layers fail, the first: %s", bad, len(findings), result.Message), "").Message
	}
	return result
}

// worst gives the finding of an image out of those of its platforms: the first of the
// worst.
func worst(parts []part) Finding {
	result := found(ReasonAvailable, "", "")
	for _, p := range parts {
		if rank(p.Verdict) > rank(result.Verdict) {
			result = p.Finding
		}
	}
	return result
}

// together gives what a registry sends for all platforms, in bytes.
func together(top resolve.Top, parts []part) int64 {
	objects := map[v1.Hash]int64{}
	manifests := map[string]int64{top.Digest.String(): top.Size}
	for _, p := range parts {
		maps.Copy(objects, p.objects)
		if p.objects != nil {
			manifests[p.Digest] = p.Size - sum(p.objects)
		}
	}
	return sum(objects) + sum(manifests)
}

func sum[K comparable](sizes map[K]int64) (total int64) {
	for _, n := range sizes {
		total += n
	}
	return total
}

// distinct gives each text once, in its order.
func distinct(all []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func orNone(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
