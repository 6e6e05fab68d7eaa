package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/serial"
)

// Defaults of Options.
const (
	DefaultKeepUnnamed = 7 * 24 * time.Hour
	DefaultPollEvery   = 5 * time.Second
)

// Options configure a Driver.
type Options struct {
	// Dir is the layout directory. It is created when missing. Required.
	Dir string
	// Source is where images come from. Required.
	Source fetch.Source
	// Fetch tunes fetching.
	Fetch fetch.Options
	// Platform is the node's. Default: that of this process.
	Platform ocispec.Platform
	// KeepUnnamed is how long blobs and ingests are kept that no name needs: what is left
	// of pulls that were given up. Default 7 days.
	KeepUnnamed time.Duration
	// PollEvery is how often Changes looks at the directory. Default 5 s: one stat per
	// blob.
	PollEvery time.Duration
	// Damaged is told when index.json could not be read and was moved aside, with what
	// was wrong and where it is now. Default nil: nobody.
	Damaged func(error)
}

// Driver keeps images in an OCI image layout.
type Driver struct {
	options Options
	root    *os.Root
	store   content.Store
	pulls   serial.Group[digest.Digest]
	began   time.Time

	// mu guards index.json and the removal of blobs, so that nobody names an image while
	// its blobs are being removed.
	mu     sync.Mutex
	active map[digest.Digest]int // running Ensure calls by digest
	facts  map[digest.Digest]fetch.Image
	named  uint64 // images that Ensure named, since New
}

var _ runtime.Driver = (*Driver)(nil)

// New opens a layout directory or makes one. It fails when that cannot be written, or is
// of an unknown layout version.
func New(o Options) (*Driver, error) {
	if o.Platform.OS == "" {
		o.Platform = platforms.DefaultSpec()
	}
	o.KeepUnnamed = cmp.Or(o.KeepUnnamed, DefaultKeepUnnamed)
	o.PollEvery = cmp.Or(o.PollEvery, DefaultPollEvery)
	if err := os.MkdirAll(o.Dir, 0o755); err != nil { //nolint:gosec // images are for others to read
		return nil, fmt.Errorf("making the layout directory: %w", err)
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the layout directory: %w", err)
	}
	d := &Driver{options: o, root: root, began: time.Now(), active: map[digest.Digest]int{}, facts: map[digest.Digest]fetch.Image{}}
	if err := d.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening layout %s: %w", o.Dir, err), root.Close())
	}
	return d, nil
}

// open prepares the directory.
func (d *Driver) open() error {
	if err := d.prepare(); err != nil {
		return err
	}
	blobs, err := local.NewStore(d.options.Dir)
	if err != nil {
		return err
	}
	d.store = unlabelled{blobs}
	d.mu.Lock()
	defer d.mu.Unlock()
	idx, err := d.readIndex()
	if err != nil {
		return err
	}
	_ = d.sweepOld(context.Background(), idx) // a disk that is read-only still has its images; the next removal tells
	return nil
}

// unlabelled is a store without labels: here content is kept by walking the index.
type unlabelled struct{ content.Store }

// Update does nothing and succeeds.
func (u unlabelled) Update(ctx context.Context, info content.Info, _ ...string) (content.Info, error) {
	return u.Info(ctx, info.Digest)
}

// Close lets go of the directory.
func (d *Driver) Close() error { return d.root.Close() }

// Info describes the directory. The version is that of the layout.
func (d *Driver) Info(context.Context) (runtime.Info, error) {
	return runtime.Info{
		Name: "layout", Version: ocispec.ImageLayoutVersion,
		Platform: platforms.Format(d.options.Platform), Root: d.options.Dir,
		Capabilities: []runtime.Capability{
			runtime.CanLimit, runtime.CanNameByDigest, runtime.CanPin, runtime.CanProgress, runtime.CanResume, runtime.CanUntag,
		},
	}, nil
}

// InUse is empty: nothing runs from a layout.
func (d *Driver) InUse(context.Context) (map[string]struct{}, error) {
	return map[string]struct{}{}, nil
}
