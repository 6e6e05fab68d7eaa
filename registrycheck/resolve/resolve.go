package resolve

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

// maxFetches is how many manifests and configurations of one image are fetched at a
// time. Below access.DefaultMaxRequestsPerHost, so that one image does not hold up all
// others of its registry.
const maxFetches = 4

// Resolver looks images up in registries. Close it when done.
type Resolver struct {
	network *access.Network
}

// New makes a Resolver. The error names the setting that is wrong and what to write
// instead; CA files are read here.
func New(settings access.Settings, opts ...access.Option) (*Resolver, error) {
	network, err := access.New(settings, opts...)
	if err != nil {
		return nil, err
	}
	return &Resolver{network: network}, nil
}

// Close ends idle connections. Calls that are running go on.
func (r *Resolver) Close() { r.network.Close() }

// Digest gives the digest that the reference stands for now: of the index where there is
// one. It costs one HEAD; a reference by digest is checked to exist. The error is an
// *Error.
func (r *Resolver) Digest(ctx context.Context, ref imageref.Reference, keys keychain.Keychain) (digest.Digest, error) {
	return lookUp(ctx, r, Query{Reference: ref, Keychain: keys}, func(ctx context.Context, s *access.Session) (digest.Digest, error) {
		return headDigest(ctx, s, ref)
	})
}

// Resolve gives all of the image: its digest, its Linux platforms, their layers and
// sizes. The error is an *Error.
func (r *Resolver) Resolve(ctx context.Context, ref imageref.Reference, keys keychain.Keychain) (Image, error) {
	return lookUp(ctx, r, Query{Reference: ref, Keychain: keys}, func(ctx context.Context, s *access.Session) (Image, error) {
		return fetchImage(ctx, s, ref)
	})
}

// fetchImage reads the object that the reference names and all that hangs on it.
func fetchImage(ctx context.Context, s *access.Session, ref imageref.Reference) (Image, error) {
	top, err := getManifest(ctx, s, identifier(ref), ref.Digest())
	if err != nil {
		return Image{}, err
	}
	doc, err := parse(top)
	if err != nil {
		return Image{}, err
	}
	image := Image{
		Reference: ref,
		Digest:    doc.digest,
		MediaType: string(doc.mediaType),
		Index:     doc.index != nil,
		Host:      s.Endpoint.Host,
	}
	if image.Index {
		err = image.addIndex(ctx, s, doc.index)
	} else {
		err = image.addSingle(ctx, s, doc)
	}
	return image, err
}

// addSingle fills in an image that is no index. Its platform stands in its
// configuration alone.
func (i *Image) addSingle(ctx context.Context, s *access.Session, doc document) error {
	if !isImageConfig(doc.image.Config.MediaType) {
		return notAnImage(doc.image)
	}
	p, err := fetchPlatform(ctx, s, doc, nil)
	if err != nil {
		return err
	}
	if p.OS != "linux" {
		return fmt.Errorf("%w: it is for %s", errNoLinux, p)
	}
	i.Platforms = []Platform{p}
	return nil
}

// addIndex fills in the platforms of an index.
func (i *Image) addIndex(ctx context.Context, s *access.Session, index *v1.IndexManifest) error {
	entries, err := flatten(ctx, s, index)
	if err != nil {
		return err
	}
	if len(entries) > MaxPlatforms {
		i.Omitted = len(entries) - MaxPlatforms
		entries = entries[:MaxPlatforms]
	}
	results := make([]found, len(entries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxFetches)
	for n, entry := range entries {
		group.Go(func() (err error) {
			results[n], err = fetchLeaf(ctx, s, entry)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return i.keep(results)
}

// found is what became of one entry of an index: a platform, or the reason why it is
// not there, or neither for an entry that is no Linux image.
type found struct {
	platform *Platform
	absent   error
	name     string // of an absent platform
}

// keep takes the platforms that are there. An index may name platforms that a registry
// does not hold, such as a mirror of a few: that fails only when nothing is left.
func (i *Image) keep(all []found) error {
	var absent error
	for _, f := range all {
		switch {
		case f.platform != nil:
			i.Platforms = append(i.Platforms, *f.platform)
		case f.absent != nil:
			absent = f.absent
			i.Absent = append(i.Absent, f.name)
		}
	}
	switch {
	case len(i.Platforms) > 0:
		return nil
	case absent != nil:
		return absent
	}
	return errNoLinux
}

// flatten gives the entries of an index and of the indexes in it, in order: those of a
// nested index after all of its parent.
func flatten(ctx context.Context, s *access.Session, index *v1.IndexManifest) ([]leaf, error) {
	entries := len(index.Manifests)
	out, nested := leaves(index)
	if entries > maxEntries || len(nested) > maxNested {
		return nil, tooManyEntries()
	}
	for _, d := range nested {
		doc, err := getChild(ctx, s, d)
		if err != nil {
			return nil, fmt.Errorf("nested index: %w", err)
		}
		if doc.index == nil {
			return nil, &invalidError{what: "index names an image as an index"}
		}
		more, deeper := leaves(doc.index)
		if len(deeper) > 0 {
			return nil, &invalidError{what: fmt.Sprintf("indexes are nested deeper than %d levels", maxDepth)}
		}
		if entries += len(doc.index.Manifests); entries > maxEntries {
			return nil, tooManyEntries()
		}
		out = append(out, more...)
	}
	return out, nil
}

func tooManyEntries() error {
	return &invalidError{what: fmt.Sprintf("index has more than %d entries or %d nested indexes", maxEntries, maxNested)}
}

// fetchLeaf looks at one entry of an index.
func fetchLeaf(ctx context.Context, s *access.Session, entry leaf) (found, error) {
	doc, err := getChild(ctx, s, entry.desc)
	if entry.platform != nil && isNotFound(err) {
		return found{absent: err, name: platforms.Format(*entry.platform)}, nil
	}
	if err != nil {
		return found{}, err
	}
	if doc.image == nil {
		return found{}, &invalidError{what: "index names an index as an image"}
	}
	if entry.platform == nil && !isImageConfig(doc.image.Config.MediaType) {
		return found{}, nil // an artifact among images
	}
	p, err := fetchPlatform(ctx, s, doc, entry.platform)
	if err != nil || p.OS != "linux" || p.Architecture == "" {
		return found{}, err
	}
	p.Implied = entry.platform == nil
	return found{platform: &p}, nil
}

// fetchPlatform describes an image manifest. stated is the platform that the index
// names; it counts more than that of the configuration, because runtimes choose by it.
func fetchPlatform(ctx context.Context, s *access.Session, doc document, stated *platforms.Platform) (Platform, error) {
	if err := checkManifest(doc.image); err != nil {
		return Platform{}, err
	}
	raw, err := getConfig(ctx, s, doc.image.Config)
	if err != nil {
		return Platform{}, err
	}
	p, err := configPlatform(raw)
	if err != nil {
		return Platform{}, err
	}
	if stated != nil {
		p = *stated
	}
	return describe(doc, p), nil
}
