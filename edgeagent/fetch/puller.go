package fetch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"edgecache.dev/api/imageref"
)

// Defaults of Options.
const (
	DefaultParallel = 3                // as the kubelet's runtimes do; more only helps on fat links
	DefaultStall    = time.Minute      // longer than any queue of a satellite link
	DefaultAttempts = 5                // with pauses of up to 1, 2, 4 and 8 s between them
	DefaultReopen   = 8 * time.Hour    // a third of the 24 h for which a lease lasts
	ChunkSize       = 32 << 10         // bytes read, written and limited at once
	abortTimeout    = 10 * time.Second // for cleaning up after a cancelled call
)

// Options tune a Puller. The zero value is right for a node.
type Options struct {
	// Parallel is how many blobs of one image are fetched at once. Default 3.
	Parallel int
	// Stall is how long a connection may be silent before it is cut. Default 60 s.
	// Time spent waiting for the Limiter does not count.
	Stall time.Duration
	// Attempts is how many connections in a row may bring no byte before the call
	// fails. Default 5.
	Attempts int
	// Reopen is how long one writer of the store is used. Default 8 h. Where writes
	// hold a lease of the store, the lease can be renewed when a writer is opened, so
	// it must last longer than twice this.
	Reopen time.Duration
	// Limiter bounds the bandwidth of this puller. Default nil: unlimited.
	Limiter Limiter
}

func (o Options) withDefaults() Options {
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Stall <= 0 {
		o.Stall = DefaultStall
	}
	if o.Attempts <= 0 {
		o.Attempts = DefaultAttempts
	}
	if o.Reopen <= 0 {
		o.Reopen = DefaultReopen
	}
	return o
}

// Puller brings images from a source into a store.
type Puller struct {
	Source  Source
	Store   content.Store
	Options Options
	// Layers says which layers of an image are needed, once its config is in the store: a
	// runtime that has layers unpacked may have given up their blobs. Default nil: all.
	Layers func(context.Context, Image) ([]ocispec.Descriptor, error)
	// Collect waits until what was deleted from Store is gone from disk, for a store that
	// takes the old file for a blob that is written anew before that. Default nil: such is
	// not this store.
	Collect func(context.Context) error
	// Admit is asked before layers are fetched, with how many bytes of config and layers are
	// still to come and which layers are needed. Its error ends the call. Default nil: all.
	Admit func(ctx context.Context, toCome int64, layers []ocispec.Descriptor) error
}

// Want is one image to fetch.
type Want struct {
	// Name says which repository to read from. Its tag is not looked at.
	Name imageref.Reference
	// Digest is what to fetch: a manifest, or an index of which the platform is chosen.
	Digest digest.Digest
	// Platform is the node's. Default: that of this process.
	Platform ocispec.Platform
}

// Image is an image whose blobs the store holds.
type Image struct {
	// Target is the manifest or index that was asked for.
	Target ocispec.Descriptor
	// Manifest is the manifest of the node's platform; the same as Target if that is no index.
	Manifest ocispec.Descriptor
	// Config is the config of Manifest. Its digest is the image's ID in CRI.
	Config ocispec.Descriptor
	// Layers are the layers in order, the lowest first; one may occur twice.
	Layers []ocispec.Descriptor
	// Size is manifest, config and layers in bytes, each blob counted once.
	Size int64
}

// Image brings in what the store lacks of an image for one platform: target, manifest,
// config, layers. It returns when all is there, or with the first error; what was fetched
// until then stays. report is called with the progress, first when the total is known and
// then at most four times a second, never concurrently; it may be nil.
//
// Content is labelled for containerd's garbage collector: the target keeps all its
// entries, present or not, the manifest its config and layers, numbered as containerd
// does it. Nothing keeps the target itself: that is for the caller's lease or image name.
//
// Errors are *Error, or wrap the context's cause.
func (p *Puller) Image(ctx context.Context, want Want, report func(Progress)) (Image, error) {
	repo, err := p.Source.Repository(ctx, want.Name)
	if err != nil {
		return Image{}, fmt.Errorf("pulling %s: %w", want.Name, err)
	}
	defer func() { _ = repo.Close() }()
	if want.Platform.OS == "" {
		want.Platform = platforms.DefaultSpec()
	}
	j := &job{
		store: p.Store, repo: repo, options: p.Options.withDefaults(), progress: newTracker(report), layers: p.Layers, collect: p.Collect,
		admit: p.Admit,
	}
	defer j.progress.end()
	img, err := j.image(ctx, want)
	if err != nil {
		return Image{}, fmt.Errorf("pulling %s: %w", want.Name, err)
	}
	return img, nil
}

// job is one call of Image.
type job struct {
	store    content.Store
	repo     Repository
	options  Options
	progress *tracker
	layers   func(context.Context, Image) ([]ocispec.Descriptor, error)
	collect  func(context.Context) error
	admit    func(context.Context, int64, []ocispec.Descriptor) error
}

func (j *job) image(ctx context.Context, want Want) (Image, error) {
	target, err := j.document(ctx, want.Digest)
	if err != nil {
		return Image{}, err
	}
	c := chooser{node: want.Platform, load: j.document, config: j.config}
	manifest, err := c.choose(ctx, target)
	if err != nil {
		return Image{}, err
	}
	for _, doc := range []document{target, manifest} {
		if err := j.label(ctx, doc); err != nil {
			return Image{}, err
		}
	}
	img := describe(target, manifest)
	parts, err := j.admitted(ctx, img)
	if err != nil {
		return Image{}, err
	}
	return img, j.all(ctx, parts)
}

// admitted gives the blobs to bring in, once that is allowed. What was there may have gone
// to make room for the rest: then more is to come, and is asked for.
func (j *job) admitted(ctx context.Context, img Image) ([]ocispec.Descriptor, error) {
	for allowed := int64(-1); ; {
		parts, err := j.needed(ctx, img)
		if err != nil {
			return nil, err
		}
		toCome, err := j.survey(ctx, img, parts)
		if err != nil || j.admit == nil || toCome <= allowed {
			return parts, err
		}
		layers := slices.DeleteFunc(slices.Clone(parts), func(d ocispec.Descriptor) bool { return d.Digest == img.Config.Digest })
		if err := j.admit(ctx, toCome, layers); err != nil {
			return nil, err
		}
		allowed = toCome
	}
}

// needed gives the blobs to bring in.
func (j *job) needed(ctx context.Context, img Image) ([]ocispec.Descriptor, error) {
	if j.layers == nil {
		return img.Blobs(), nil
	}
	// Read, and not only brought in: what says which layers are needed must not be damaged.
	if _, err := j.config(ctx, img.Config); err != nil {
		return nil, err
	}
	layers, err := j.layers(ctx, img)
	if err != nil {
		return nil, err
	}
	return Image{Config: img.Config, Layers: layers}.Blobs(), nil
}

// survey looks at what the store holds of an image, makes the first report, and gives the
// bytes that are still to come. What is not needed counts as done.
func (j *job) survey(ctx context.Context, img Image, parts []ocispec.Descriptor) (toCome int64, err error) {
	for _, d := range append(img.Blobs(), img.Manifest) {
		j.progress.at(d.Digest, d.Size)
	}
	for _, d := range parts {
		n, err := j.stored(ctx, d)
		if err != nil {
			return 0, err
		}
		j.progress.at(d.Digest, n)
		toCome += d.Size - n
	}
	j.progress.begin(img.Size)
	return toCome, nil
}

// all brings in blobs, some at a time.
func (j *job) all(ctx context.Context, parts []ocispec.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(j.options.Parallel)
	for _, d := range parts {
		g.Go(func() error { return j.blob(ctx, d) })
	}
	return g.Wait()
}
