package cri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/containerd/v2/core/content"
	contentproxy "github.com/containerd/containerd/v2/core/content/proxy"
	leasesproxy "github.com/containerd/containerd/v2/core/leases/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/lease"
	"edgecache.dev/edgeagent/runtime/sandbox"
	"edgecache.dev/edgeagent/runtime/serial"
)

const (
	// callTimeout bounds calls that ask or change a little.
	callTimeout = time.Minute
	// maxReconnect bounds the pause before the runtime is tried again after a restart.
	maxReconnect = 3 * time.Second
	// maxMessage bounds an answer, in bytes. The kubelet has the same bound.
	maxMessage = 16 << 20
	// namespace is that of the kubelet's images in containerd.
	namespace = "k8s.io"

	nameCRIO = "cri-o"
)

// Options configure a Driver.
type Options struct {
	// Address is the path of the runtime's CRI socket, with or without "unix://".
	// Required.
	Address string
	// Credentials gives the logins for pulling an image, which are tried in turn, each when
	// the one before was refused; none is anonymous. host is the registry as the image
	// names it. Its error counts where it gives no login. Default: anonymous. The runtime
	// adds what it is configured with itself.
	Credentials func(name imageref.Reference, host string) ([]fetch.Login, error)
	// LeaseTTL is how long the half of an image is kept after the last attempt, where the
	// runtime can. Default 24 h. One call of PullImage lasts a third of it at most.
	LeaseTTL time.Duration
	// CRIOConfigDir is the folder of CRI-O's drop-in configuration, where images are pinned
	// by a file of the driver's own; it is usually /etc/crio/crio.conf.d. Where it is "" or
	// not there, or the runtime is another one, nothing can be pinned.
	CRIOConfigDir string
}

// Driver keeps images in whatever serves CRI.
type Driver struct {
	options Options
	conn    *grpc.ClientConn
	images  api.ImageServiceClient
	runtime api.RuntimeServiceClient
	leases  lease.Keeper
	content content.Store // where leases are served
	pulls   serial.Group[digest.Digest]
	sandbox sandbox.Memory
	pins    pinner

	mu        sync.Mutex      // guards what follows
	hasLeases *bool           // nil until the runtime has answered
	synced    map[string]bool // IDs of the images that were there when the disk was synced last
	unsynced  bool            // it could not be, since then
}

var (
	_ runtime.Driver  = (*Driver)(nil)
	_ runtime.Weigher = (*Driver)(nil)
)

// New makes a driver. It connects to nothing yet: the runtime may be away.
func New(o Options) (*Driver, error) {
	o.LeaseTTL = cmp.Or(o.LeaseTTL, lease.DefaultTTL)
	reconnect := backoff.DefaultConfig
	reconnect.MaxDelay = maxReconnect
	conn, err := grpc.NewClient("unix://"+strings.TrimPrefix(o.Address, "unix://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: maxReconnect}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("making a client of the runtime at %s: %w", o.Address, err)
	}
	return &Driver{
		options: o, conn: conn, images: api.NewImageServiceClient(conn), runtime: api.NewRuntimeServiceClient(conn),
		leases:  lease.Keeper{Manager: leasesproxy.NewLeaseManager(leasesapi.NewLeasesClient(conn)), TTL: o.LeaseTTL},
		content: contentproxy.NewContentStore(contentapi.NewContentClient(conn)),
		pins:    pinner{file: dropIn{dir: o.CRIOConfigDir}},
	}, nil
}

// Close ends the connection.
func (d *Driver) Close() error { return d.conn.Close() }

// Info asks the runtime for its version and directories, and tries what it can do.
func (d *Driver) Info(ctx context.Context) (runtime.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := d.runtime.Version(ctx, &api.VersionRequest{})
	if err != nil {
		return runtime.Info{}, classify("asking the runtime for its version", err)
	}
	fs, err := d.images.ImageFsInfo(ctx, &api.ImageFsInfoRequest{})
	if err != nil {
		return runtime.Info{}, classify("asking the runtime for its image file system", err)
	}
	leased, err := d.canLease(ctx)
	if err != nil {
		return runtime.Info{}, err
	}
	info := runtime.Info{
		Name: v.GetRuntimeName(), Version: v.GetRuntimeVersion(), Platform: platforms.DefaultString(),
		Capabilities: capabilities(v.GetRuntimeName(), leased, d.canPin(ctx, v.GetRuntimeName())), SandboxImage: d.sandboxImage(ctx),
		Unsynced: d.isUnsynced(),
	}
	if all := fs.GetImageFilesystems(); len(all) > 0 {
		info.Root = all[0].GetFsId().GetMountpoint()
	}
	return info, nil
}

// sandboxImage gives what is known of the sandbox image now. A runtime that does not tell
// leaves it as it was.
func (d *Driver) sandboxImage(ctx context.Context) imageref.Reference {
	err := d.sandbox.AskConfiguration(ctx, d.runtime)
	if !d.sandbox.Told() {
		err = errors.Join(err, d.sandbox.AskSandboxes(ctx, d.runtime))
	}
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Sandbox image not found out", "err", err)
	}
	return d.sandbox.Image()
}

// capabilities gives what can be done with a runtime.
func capabilities(name string, leases, pins bool) []runtime.Capability {
	var can []runtime.Capability
	if pins {
		can = append(can, runtime.CanPin)
	}
	if leases {
		can = append(can, runtime.CanResume)
	}
	if name == nameCRIO {
		can = append(can, runtime.CanUntag)
	}
	slices.Sort(can)
	return can
}

// canLease says whether the socket serves containerd's leases, and keeps the answer.
func (d *Driver) canLease(ctx context.Context) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hasLeases != nil {
		return *d.hasLeases, nil
	}
	_, err := d.leases.Manager.List(inNamespace(ctx), "id==none")
	if err != nil && !errdefs.IsNotImplemented(err) {
		return false, classify("asking the runtime for leases", err)
	}
	d.hasLeases = new(err == nil)
	return *d.hasLeases, nil
}

func inNamespace(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, namespace)
}

// Changes is nil: CRI tells nothing about images.
func (d *Driver) Changes(context.Context) <-chan struct{} { return nil }
