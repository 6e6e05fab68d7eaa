package edgeagent

import (
	"context"
	"math"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/evict"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/internal/pause"
)

const (
	// fastest is how many bytes a second may be written to the disk, at a guess: how soon the
	// room is looked at again depends on it.
	fastest = 500 << 20
	// The disk is looked at so often at most, and at least, while an image comes in.
	guardOften, guardSeldom = 50 * time.Millisecond, 5 * time.Second
)

// guard stops an attempt before the reserve is touched, whoever fills the disk.
func (a *Agent) guard(ctx context.Context, root string, stop context.CancelCauseFunc) {
	for {
		wait := guardSeldom
		if disk, err := a.diskOf(root); err == nil && disk != nil {
			room := evict.Room{Capacity: disk.Capacity, Available: disk.Available, Reserve: disk.Reserve}
			if room.Touched() {
				stop((&shortError{room: room, stopped: true}).reasoned())
				return
			}
			wait = nextLook(room)
		}
		if !pause.For(ctx, wait) {
			return
		}
	}
}

// nextLook is when the reserve could be touched at the earliest, about.
func nextLook(r evict.Room) time.Duration {
	left := time.Duration(r.Available-r.Reserve) * time.Second / fastest
	return min(max(left/2, guardOften), guardSeldom)
}

// relieve gives up what the node can do without while the reserve is touched: halves of
// images that are not coming in just now, the least important first, then earlier digests.
// It says whether something was removed. What is cached and wished stays: a disk that others
// fill takes no image from anybody. The half of an image that turned out too large goes in
// any case.
func (a *Agent) relieve(ctx context.Context) (removed bool) {
	if !a.space.known {
		return false
	}
	for _, img := range slices.Backward(a.steps.Missing) {
		t := a.attempts[img.Ref.String()]
		if t != nil && t.cancel == nil && t.done.Load() > 0 && (t.hopeless || a.space.room.Short() > 0) {
			removed = a.dropHalf(ctx, &img, t) || removed
		}
	}
	if short := a.space.room.Short(); !removed && short > 0 {
		going, _ := evict.Choose(short, math.MinInt32, a.spares(ctx), a.space.weights)
		var names []imageref.Reference
		for _, img := range going {
			names = append(names, img.Names...)
		}
		removed = len(names) > 0 && a.removeForRoom(ctx, names...)
	}
	return removed
}

// dropHalf gives up what was fetched of an image, and looks what that has brought.
func (a *Agent) dropHalf(ctx context.Context, img *plan.Image, t *attempt) bool {
	half := img.Ref.WithDigest(img.Digest)
	if _, named := a.inventory[half]; !named && !a.removeForRoom(ctx, half) {
		return false
	}
	t.need.Fetch += t.done.Swap(0)
	t.hopeless = false
	if disk, err := a.diskOf(a.info.Root); err == nil && disk != nil {
		a.space.room.Available = disk.Available
	}
	return true
}

func (a *Agent) removeForRoom(ctx context.Context, names ...imageref.Reference) bool {
	klog.FromContext(ctx).Info("Room is short, giving up what the node can do without", "names", names)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer a.pulse.away()()
	err := a.driver.Remove(call, names...)
	a.trouble.note(ctx, withRoom, err, "Images not given up")
	return err == nil
}
