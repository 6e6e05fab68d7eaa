package registrycheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/resolve"
)

const (
	// maxParts is how many parts of an image are asked for at a time; how many a
	// registry is asked for is up to access.Settings.
	maxParts = 64
	// maxPlatforms is how many platforms are checked where none was asked for.
	maxPlatforms = resolve.MaxPlatforms
)

// check checks one image of a run.
func (r *run) check(ctx context.Context, request Request) Result {
	result := Result{Reference: request.Reference, Source: request.Source}
	ref, err := imageref.Parse(request.Reference)
	if err != nil {
		result.Finding = found(ReasonInvalidReference, err.Error(), "write it as registry.example/app:v1")
		return result
	}
	i := &image{
		run: r, seen: r.scope(ref, request.Keychain), request: request, budget: &budget{max: r.options.MaxWait},
		query: resolve.Query{Reference: ref, Keychain: request.Keychain},
	}
	top, err := i.top(ctx)
	if err != nil {
		result.Finding = explain(err)
		return result
	}
	i.query.First = top.Host
	result.Digest, result.MediaType, result.Host = top.Digest.String(), top.MediaType, top.Host
	i.fill(ctx, &result, top)
	if request.Signatures {
		result.Signatures = i.signedBy(ctx, top)
	}
	return result
}

// fill checks the platforms of an image that is there.
func (i *image) fill(ctx context.Context, result *Result, top resolve.Top) {
	var parts []part
	if top.Image != nil {
		parts = i.single(ctx, top.Image)
	} else {
		parts = i.index(ctx, top.Entries)
	}
	for _, p := range parts {
		result.Platforms = append(result.Platforms, p.Platform)
		result.RedirectHosts = append(result.RedirectHosts, p.hosts...)
		if p.Image != "" {
			result.Offered = append(result.Offered, p.Image)
		}
	}
	if top.Entries != nil {
		result.Offered = append(format(offered(top.Entries)), result.Offered...)
	}
	slices.Sort(result.RedirectHosts)
	result.RedirectHosts = slices.Compact(result.RedirectHosts)
	result.Offered = distinct(result.Offered)
	result.Size = together(top, parts)
	result.Finding = worst(parts)
	if n := len(offered(top.Entries)); len(i.request.Platforms) == 0 && n > maxPlatforms && result.Verdict == Pullable {
		result.Message = fmt.Sprintf("the first %d of %d platforms were checked", maxPlatforms, n)
	}
}

// part is one platform of an image, with what only the image as a whole shows.
type part struct {
	Platform
	hosts   []string
	objects map[v1.Hash]int64 // what is downloaded for it, by size
}

// single checks an image that is no index: every node takes it.
func (i *image) single(ctx context.Context, m *resolve.Manifest) []part {
	config, err := i.config(ctx, m.Config)
	if err != nil {
		failure := explainPart(err)
		nodes := format(i.request.Platforms)
		if len(nodes) == 0 {
			nodes = []string{"linux"}
		}
		var parts []part
		for _, node := range nodes {
			parts = append(parts, part{Platform: Platform{Platform: node, Finding: failure, Digest: m.Digest.String(), Config: m.Config.Digest.String()}})
		}
		return parts
	}
	nodes := i.request.Platforms
	if len(nodes) == 0 {
		nodes = []platforms.Platform{config.Platform}
	}
	var parts []part
	for _, node := range nodes {
		parts = append(parts, i.content(ctx, linux(node), m, config))
	}
	return parts
}

// index checks what nodes take of an index.
func (i *image) index(ctx context.Context, entries []resolve.Entry) []part {
	nodes := i.request.Platforms
	if len(nodes) == 0 {
		nodes = offered(entries)
		nodes = nodes[:min(len(nodes), maxPlatforms)]
	}
	if len(nodes) == 0 {
		return i.unstated(ctx, entries)
	}
	parts := make([]part, len(nodes))
	var group errgroup.Group
	for n, node := range nodes {
		group.Go(func() error {
			parts[n] = i.node(ctx, entries, linux(node))
			return nil
		})
	}
	_ = group.Wait() // no error is returned
	return parts
}

// node checks what a node of a platform takes of an index.
func (i *image) node(ctx context.Context, entries []resolve.Entry, node platforms.Platform) part {
	if best := choose(entries, node); best >= 0 {
		return i.entry(ctx, entries[best], node)
	}
	// Runtimes look into the entries that state nothing, and so does this.
	for _, e := range implied(entries) {
		m, err := i.child(ctx, e.Descriptor)
		if err != nil {
			return failed(platforms.Format(node), explainPart(err))
		}
		if config, err := i.config(ctx, m.Config); err == nil && platforms.Only(node).Match(config.Platform) {
			return i.content(ctx, node, m, config)
		}
	}
	return failed(platforms.Format(node), found(ReasonPlatformMissing,
		fmt.Sprintf("%s has nothing for %s nodes, only for %s", i.query.Reference, platforms.Format(node), orNone(format(offered(entries)))),
		"build it for "+platforms.Format(node)+", or keep it off such nodes"))
}

// unstated checks the images of an index that states no platform at all.
func (i *image) unstated(ctx context.Context, entries []resolve.Entry) []part {
	var parts []part
	for _, e := range entries[:min(len(entries), maxPlatforms)] {
		m, err := i.child(ctx, e.Descriptor)
		if re, ok := errors.AsType[*resolve.Error](err); ok && errors.Is(re.Err, resolve.ErrNotImage) {
			continue // an artifact among images
		}
		if err != nil {
			parts = append(parts, failed("linux", explainPart(err)))
			continue
		}
		config, err := i.config(ctx, m.Config)
		if err != nil {
			parts = append(parts, failed("linux", explainPart(err)))
			continue
		}
		parts = append(parts, i.content(ctx, config.Platform, m, config))
	}
	if len(parts) == 0 {
		parts = append(parts, failed("linux", found(ReasonNotAnImage, "index holds no image", "")))
	}
	return parts
}

// entry checks the entry of an index that a node takes.
func (i *image) entry(ctx context.Context, e resolve.Entry, node platforms.Platform) part {
	m, err := i.child(ctx, e.Descriptor)
	if err != nil {
		p := failed(platforms.Format(node), explainPart(err))
		p.Image, p.Digest = platforms.Format(*e.Platform), e.Descriptor.Digest.String()
		return p
	}
	config, err := i.config(ctx, m.Config)
	if err != nil {
		p := failed(platforms.Format(node), explainPart(err))
		p.Image, p.Digest, p.Config = platforms.Format(*e.Platform), m.Digest.String(), m.Config.Digest.String()
		return p
	}
	p := i.content(ctx, node, m, config)
	p.Image = platforms.Format(*e.Platform)
	return p
}

func failed(node string, f Finding) part {
	return part{Platform: Platform{Platform: node, Finding: f}}
}

// signedBy says what signs an image.
func (i *image) signedBy(ctx context.Context, top resolve.Top) *Signatures {
	types, err := i.signatures(ctx, top.Digest)
	if err != nil {
		return &Signatures{Unknown: explain(err).Explain()}
	}
	return &Signatures{Signed: slices.ContainsFunc(types, isSignature), Types: types}
}

// isSignature tells signatures from what else refers to images.
func isSignature(artifactType string) bool {
	return strings.Contains(artifactType, "sigstore.bundle") || strings.Contains(artifactType, "cosign") && strings.Contains(artifactType, "sig") ||
		strings.Contains(artifactType, "notary.signature")
}
