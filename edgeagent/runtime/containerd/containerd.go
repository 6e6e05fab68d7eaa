package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/lease"
	"edgecache.dev/edgeagent/runtime/sandbox"
	"edgecache.dev/edgeagent/runtime/serial"
)

// Defaults of Options.
const (
	DefaultAddress     = "/run/containerd/containerd.sock"
	DefaultNamespace   = "k8s.io"
	DefaultSnapshotter = "overlayfs"
)

const (
	// callTimeout bounds calls that ask or change a little.
	callTimeout = time.Minute
	// maxReconnect bounds the pause before containerd is tried again after a restart.
	maxReconnect = 3 * time.Second

	snapshotterPlugin = "io.containerd.snapshotter.v1"
	contentPlugin     = "io.containerd.content.v1"
)

// Options configure a Driver.
type Options struct {
	// Address is the path of containerd's socket. Default /run/containerd/containerd.sock.
	Address string
	// Namespace is containerd's. Default "k8s.io", which the kubelet uses.
	Namespace string
	// Snapshotter is where images are unpacked. Default: the one that CRI uses, which
	// containerd is asked for; "overlayfs" where it runs without CRI.
	Snapshotter string
	// Source is where images come from. Required.
	Source fetch.Source
	// Fetch tunes fetching. Fetch.Reopen must be at most a third of LeaseTTL.
	Fetch fetch.Options
	// Platform is the node's. Default: that of this process.
	Platform ocispec.Platform
	// LeaseTTL is how long the half of an image is kept after the last attempt. Default
	// 24 h.
	LeaseTTL time.Duration
}

// Driver keeps images in containerd.
type Driver struct {
	options Options
	client  *client.Client
	leases  lease.Keeper
	pulls   serial.Group[digest.Digest]
	// unpacking lets one image be unpacked at a time: it is the disk that is the limit.
	unpacking serial.Group[struct{}]
	sandbox   sandbox.Memory

	mu          sync.Mutex // guards what follows
	snapshotter string     // "" until containerd has been asked
	facts       map[digest.Digest]facts
	unpackSpeed int64 // compressed bytes per second, 0 before it was measured
}

var _ runtime.Driver = (*Driver)(nil)

// New makes a driver. It connects to nothing yet: containerd may be away.
func New(o Options) (*Driver, error) {
	o.Address = cmp.Or(o.Address, DefaultAddress)
	o.Namespace = cmp.Or(o.Namespace, DefaultNamespace)
	o.LeaseTTL = cmp.Or(o.LeaseTTL, lease.DefaultTTL)
	if o.Platform.OS == "" {
		o.Platform = platforms.DefaultSpec()
	}
	reconnect := backoff.DefaultConfig
	reconnect.MaxDelay = maxReconnect
	c, err := client.New(o.Address, client.WithDefaultNamespace(o.Namespace),
		client.WithDefaultPlatform(platforms.Only(o.Platform)),
		client.WithExtraDialOpts([]grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: reconnect, MinConnectTimeout: maxReconnect,
		})}))
	if err != nil {
		return nil, fmt.Errorf("making a client of containerd at %s: %w", o.Address, err)
	}
	return &Driver{
		options: o, client: c, leases: lease.Keeper{Manager: c.LeasesService(), TTL: o.LeaseTTL},
		snapshotter: o.Snapshotter, facts: map[digest.Digest]facts{},
	}, nil
}

// Close ends the connection.
func (d *Driver) Close() error { return d.client.Close() }

// Info asks containerd for its version, snapshotter and directories.
func (d *Driver) Info(ctx context.Context) (runtime.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := d.client.Version(ctx)
	if err != nil {
		return runtime.Info{}, runtime.Failed("asking containerd for its version", err)
	}
	roots, err := d.roots(ctx)
	if err != nil {
		return runtime.Info{}, err
	}
	sn, err := d.snapshotterName(ctx)
	if err != nil {
		return runtime.Info{}, err
	}
	return runtime.Info{
		Name: "containerd", Version: v.Version, Snapshotter: sn, Platform: platforms.Format(d.options.Platform),
		Root: cmp.Or(roots[snapshotterPlugin+"."+sn], roots[contentPlugin+".content"]),
		Capabilities: []runtime.Capability{
			runtime.CanLimit, runtime.CanNameByDigest, runtime.CanPin, runtime.CanProgress, runtime.CanResume, runtime.CanUntag,
		},
		SandboxImage:         d.sandboxImage(ctx),
		UnpackBytesPerSecond: d.speed(),
	}, nil
}

// roots gives the directories of containerd's plugins by their URIs.
func (d *Driver) roots(ctx context.Context) (map[string]string, error) {
	resp, err := d.client.IntrospectionService().Plugins(ctx, "type=="+snapshotterPlugin, "type=="+contentPlugin)
	if err != nil {
		return nil, runtime.Failed("asking containerd for its plugins", err)
	}
	roots := map[string]string{}
	for _, p := range resp.Plugins {
		roots[uri(p)] = p.Exports["root"]
	}
	return roots, nil
}

func uri(p *introspection.Plugin) string { return p.Type + "." + p.ID }

// snapshotterName gives the snapshotter to unpack into. It fails while nobody can say which:
// in another one images would be unpacked for nobody.
func (d *Driver) snapshotterName(ctx context.Context) (string, error) {
	d.mu.Lock()
	known := d.snapshotter
	d.mu.Unlock()
	if known != "" {
		return known, nil
	}
	asked, err := d.askSnapshotter(ctx)
	if err != nil {
		return "", runtime.Failed("asking containerd for the snapshotter of CRI", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snapshotter = asked
	return asked, nil
}

// criConn gives the connection for CRI, nil where the images are not CRI's.
func (d *Driver) criConn() *grpc.ClientConn {
	conn, ok := d.client.Conn().(*grpc.ClientConn)
	if !ok || d.options.Namespace != DefaultNamespace {
		return nil
	}
	return conn
}

// askSnapshotter finds the snapshotter whose directory CRI gives as its image file system.
// Where containerd runs without CRI it is the default.
func (d *Driver) askSnapshotter(ctx context.Context) (string, error) {
	conn := d.criConn()
	if conn == nil {
		return DefaultSnapshotter, nil
	}
	info, err := cri.NewImageServiceClient(conn).ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
	if status.Code(err) == codes.Unimplemented {
		return DefaultSnapshotter, nil
	}
	if err != nil {
		return "", err
	}
	roots, err := d.roots(ctx)
	if err != nil {
		return "", err
	}
	for _, fs := range info.GetImageFilesystems() {
		if sn, ok := snapshotterOf(fs.GetFsId().GetMountpoint(), roots); ok {
			return sn, nil
		}
	}
	return "", errors.New("CRI names no directory of a snapshotter: name it with --snapshotter")
}

// snapshotterOf finds the snapshotter of a directory: the one whose root it is, or, as CRI
// makes up the directory of one that says no root, the one that it is named after.
func snapshotterOf(dir string, roots map[string]string) (string, bool) {
	for plugin, root := range roots {
		if sn, ok := strings.CutPrefix(plugin, snapshotterPlugin+"."); ok && root != "" && root == dir {
			return sn, true
		}
	}
	plugin := filepath.Base(dir)
	sn, ok := strings.CutPrefix(plugin, snapshotterPlugin+".")
	_, there := roots[plugin]
	return sn, ok && there
}
