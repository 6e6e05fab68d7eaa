package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
)

// Driver is one kind of container runtime.
type Driver interface {
	Describer
	Observer
	Keeper
	// Close ends connections. Calls after it fail.
	io.Closer
}

// Describer says what there is to work with.
type Describer interface {
	// Info describes runtime and driver. It fails when the runtime does not answer.
	Info(ctx context.Context) (Info, error)
}

// Observer says what the runtime holds.
type Observer interface {
	// Inventory gives every name of every image that the runtime has, also those that the
	// agent did not bring. Names that are no references are left out. The work is bounded:
	// a few calls of the runtime per image, no reading of layers.
	Inventory(ctx context.Context) (Inventory, error)
	// InUse gives the IDs of the images of running or created containers. It is complete
	// or fails: a removal may depend on it.
	InUse(ctx context.Context) (map[string]struct{}, error)
	// Changes gives a channel on which a hint comes when images may have changed, by
	// whatever hand: the driver's own changes too. Hints are merged. It is nil for a
	// driver that cannot tell. Nothing comes after ctx ends, and it is never closed.
	Changes(ctx context.Context) <-chan struct{}
}

// Weigher is an Observer that also says what images take on disk. Where a driver is none no
// image is given up for another one.
type Weigher interface {
	// Weigh gives the parts of every image that the runtime has, by all its names. The work
	// grows with the number of layers: it is for when room is short.
	Weigh(ctx context.Context) (map[imageref.Reference][]Part, error)
}

// Part is something on disk that images consist of, and may share: a blob, an unpacked layer.
type Part struct {
	ID   string
	Size int64 // bytes
}

// Need is what an image will still take on disk, in bytes.
type Need struct {
	// Fetch is what is still to be fetched.
	Fetch int64
	// Unpack is an estimate of what will be unpacked.
	Unpack int64
}

// Total is both.
func (n Need) Total() int64 { return n.Fetch + n.Unpack }

// Keeper changes what the runtime holds.
type Keeper interface {
	// Ensure makes a name point at a digest, bringing in what is missing of it for the
	// node's platform. Then the image is complete, unpacked and safe on disk where the
	// runtime unpacks, and named by Request.Name and by repository@digest, both managed
	// and with the asked-for pin. progress is called while bytes come, at most about four
	// times a second and never concurrently; it may be nil.
	//
	// Errors carry a reason, or wrap the context's cause when that ended the call.
	Ensure(ctx context.Context, r Request, progress func(Progress)) error
	// Pin shields names from the garbage collection of the kubelet, managed or not, and
	// changes nothing else of them. Names that are not there are skipped. Without the
	// capability pin it does nothing.
	Pin(ctx context.Context, names ...imageref.Reference) error
	// Release makes names unmanaged and unpinned; images stay. Names that are not there
	// are skipped.
	Release(ctx context.Context, names ...imageref.Reference) error
	// Remove removes exactly these names, and the content that no name is left for. Names
	// that are not there are skipped; one by digest also gives up what an Ensure that is
	// not running any more left of that digest. A driver without the capability untag gives a
	// *NameSharedError and removes nothing of an image that has other names. It goes on
	// after a failure; errors are joined.
	Remove(ctx context.Context, names ...imageref.Reference) error
}

// Request asks for one name.
type Request struct {
	// Name is what pods ask for, by tag or by digest.
	Name imageref.Reference
	// Digest is what it shall be: the digest frozen for the fleet, of an index or a
	// manifest. Where Name has a digest it is the same.
	Digest digest.Digest
	// Pin shields the image from the garbage collection of the kubelet.
	Pin bool
	// Size is the expected download in bytes, 0 when unknown: for drivers that learn nothing
	// of an image before it is there.
	Size int64
	// Admit is asked before anything but documents is fetched, with what the image will
	// take. It may last: room may have to be made. Its error ends the call. Nil admits all.
	Admit func(ctx context.Context, need Need) error
}

// Check says whether a request makes sense.
func (r Request) Check() error {
	if r.Name.IsZero() {
		return &Error{Reason: fetch.RuntimeError, Err: errors.New("request names no image")}
	}
	if err := imageref.CheckDigest(r.Digest); err != nil {
		return &Error{Reason: fetch.RuntimeError, Err: fmt.Errorf("requesting %s: %w", r.Name, err)}
	}
	if named := r.Name.Digest(); named != "" && named != r.Digest {
		return &Error{Reason: fetch.DigestMismatch, Err: fmt.Errorf("requesting %s: asked to make it %s", r.Name, r.Digest)}
	}
	return nil
}

// Progress is how much of an image is on the node.
type Progress = fetch.Progress

// Held is one name as the runtime holds it.
type Held struct {
	// Digest is what the name points at: an index or a manifest. "" when the runtime does
	// not say.
	Digest digest.Digest
	// ID is the digest of the config of the node's platform, by which CRI and the kubelet
	// know the image; Docker may take that of the index. "" when the image is too incomplete
	// to tell.
	ID string
	// Size is the compressed size for the node's platform in bytes, 0 when unknown.
	Size int64
	// Complete says that a container can start from the image without any network.
	Complete bool
	// Lazy says that a snapshotter fetches the image's files over the network when they are
	// read: however far it came, no container can be sure to start without. Never Complete.
	Lazy bool
	// Since is when the runtime was given the name, zero when it does not say.
	Since time.Time
	// Pinned says that the kubelet's garbage collection spares the image.
	Pinned bool
	// Managed says that Ensure made this name, by this or an earlier agent. Drivers
	// without the capability pin cannot mark names: always false there.
	Managed bool
}

// Inventory is what a runtime holds, by name.
type Inventory map[imageref.Reference]Held

// Info describes a runtime and its driver.
type Info struct {
	// Name and Version are the runtime's own: "containerd", "v2.4.2".
	Name, Version string
	// Snapshotter is where the runtime unpacks images: "overlayfs". "" when it does not,
	// or does not say.
	Snapshotter string
	// Platform is the node's, for which images are chosen: "linux/arm64".
	Platform string
	// Root is a path on the file system that holds the images, for its free space. ""
	// when unknown.
	Root string
	// Capabilities are what the driver can do with this runtime, sorted.
	Capabilities []Capability
	// SandboxImage is what the runtime makes pod sandboxes of. Zero while it is not known:
	// that is no error of Info, and says nothing against what was known before.
	SandboxImage imageref.Reference
	// Unsynced says that nobody could sync to disk what the runtime pulled: a power cut may
	// damage what counts as complete.
	Unsynced bool
	// UnpackBytesPerSecond is how fast the driver had compressed layers unpacked lately, 0
	// where it did not yet, or does not.
	UnpackBytesPerSecond int64
}

// Can says whether the driver has a capability.
func (i Info) Can(c Capability) bool { return slices.Contains(i.Capabilities, c) }

// Capability is something that not every driver can do.
type Capability string

// Capabilities.
const (
	// CanResume: half a layer survives lost connections, restarts and reboots.
	CanResume Capability = "resume"
	// CanProgress: Ensure reports bytes while they come.
	CanProgress Capability = "progress"
	// CanLimit: the driver fetches through the agent's bandwidth limiter and dial guard.
	CanLimit Capability = "limit"
	// CanNameByDigest: a digest can be given any name, so the frozen digest is fetched
	// whatever the tag at the registry points at now.
	CanNameByDigest Capability = "name-by-digest"
	// CanPin: images can be pinned, and names marked as managed.
	CanPin Capability = "pin"
	// CanUntag: one name of several of the same image can be removed.
	CanUntag Capability = "untag"
)

// NamesOf gives the names that Ensure makes for a request: the one that was asked for and
// the one by digest, or one where they are the same.
func NamesOf(name imageref.Reference, d digest.Digest) []imageref.Reference {
	byDigest := name.WithDigest(d)
	if name == byDigest {
		return []imageref.Reference{name}
	}
	return []imageref.Reference{name, byDigest}
}
