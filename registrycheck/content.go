package registrycheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/resolve"
)

// content checks the layers of a manifest, and whether the node can use them.
func (i *image) content(ctx context.Context, node platforms.Platform, m *resolve.Manifest, config resolve.Config) part {
	p := part{Platform: Platform{
		Platform: platforms.Format(node),
		Finding:  found(ReasonAvailable, "", ""),
		Image:    platforms.Format(config.Platform),
		Digest:   m.Digest.String(),
		Config:   m.Config.Digest.String(),
	}, objects: map[v1.Hash]int64{}}
	for _, l := range m.Layers {
		p.objects[l.Digest] = l.Size
		p.Layers = append(p.Layers, Layer{Digest: l.Digest.String(), MediaType: string(l.MediaType), Size: l.Size})
	}
	p.objects[m.Config.Digest] = m.Config.Size
	p.Size = sum(p.objects) + m.Size
	layers := distinctLayers(m.Layers)
	if failure, ok := i.refused(node, m, config); ok {
		p.Finding = failure
		p.Disk = i.options.Runtime.disk(layers, 0)
		return p
	}
	p.Finding, p.hosts, p.Unpacked = i.layers(ctx, layers, m, config)
	p.Disk = i.options.Runtime.disk(layers, p.Unpacked)
	return p
}

// refused says why a node could not use an image, whatever is there of it.
func (i *image) refused(node platforms.Platform, m *resolve.Manifest, config resolve.Config) (Finding, bool) {
	if len(config.DiffIDs) != len(m.Layers) {
		return found(ReasonInvalidImage, fmt.Sprintf("manifest of %s names %d layers and its configuration %d: runtimes refuse that",
			i.query.Reference, len(m.Layers), len(config.DiffIDs)), "build and push it again"), true
	}
	for _, d := range config.DiffIDs {
		if err := imageref.CheckDigest(d); err != nil {
			return found(ReasonInvalidImage, fmt.Sprintf("configuration of %s: content of a layer: %v", i.query.Reference, err), "build and push it again"), true
		}
	}
	for n, l := range m.Layers {
		if why := i.options.Runtime.refuses(l.MediaType); why != "" {
			return found(ReasonUnsupportedMediaType, fmt.Sprintf("layer %d of %d (type %q) %s", n+1, len(m.Layers), l.MediaType, why),
				"build it with gzip or zstd layers of OCI types"), true
		}
	}
	if !runs(node, config.Platform) {
		return found(ReasonPlatformMismatch, fmt.Sprintf("%s can be pulled, but its programs are for %s and do not run on %s nodes (exec format error)",
			i.query.Reference, platforms.Format(config.Platform), platforms.Format(node)),
			"build it for "+platforms.Format(node)+", or keep it off such nodes"), true
	}
	return Finding{}, false
}

// layers asks for each layer, or reads it.
func (i *image) layers(ctx context.Context, layers []v1.Descriptor, m *resolve.Manifest, config resolve.Config) (Finding, []string, int64) {
	findings := make([]Finding, len(layers))
	hosts := make([][]string, len(layers))
	unpacked := make([]int64, len(layers))
	var group errgroup.Group
	group.SetLimit(maxParts)
	for n, l := range layers {
		group.Go(func() error {
			answer, err := i.blob(ctx, l, i.diffID(l, m, config))
			findings[n] = found(ReasonAvailable, "", "")
			if err != nil {
				findings[n] = explainPart(err)
				hosts[n] = elsewhere(err)
				return nil
			}
			hosts[n], unpacked[n] = answer.RedirectHosts, answer.Unpacked
			return nil
		})
	}
	_ = group.Wait() // no error is returned
	var total int64
	for _, n := range unpacked {
		total += n
	}
	return ofParts(findings), slices.Concat(hosts...), total
}

// diffID gives the digest of a layer's content where it is to be compared, else "".
func (i *image) diffID(l v1.Descriptor, m *resolve.Manifest, config resolve.Config) digest.Digest {
	if !i.request.Full {
		return ""
	}
	n := slices.IndexFunc(m.Layers, func(other v1.Descriptor) bool { return other.Digest == l.Digest })
	return config.DiffIDs[n] // there are as many, see refused
}

// distinctLayers gives each layer once.
func distinctLayers(layers []v1.Descriptor) []v1.Descriptor {
	var out []v1.Descriptor
	seen := map[v1.Hash]bool{}
	for _, l := range layers {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			out = append(out, l)
		}
	}
	return out
}
