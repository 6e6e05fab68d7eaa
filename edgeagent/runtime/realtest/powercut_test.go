package realtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/containerd"
	"edgecache.dev/test/lab/powercut"
)

// diskSize holds containerd's root with a few images, in bytes.
const diskSize = 400 << 20

// box is a containerd on a disk whose power can be cut.
type box struct {
	*world
	disk  *powercut.Disk
	hosts string
}

func newBox(t *testing.T, fs powercut.FS) *box {
	t.Helper()
	disk := powercut.New(t, fs, diskSize)
	dir := filepath.Join(disk.Dir(), "c")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, options{dir: dir})
	return &box{world: w, disk: disk, hosts: w.reg.HostsDir(t, "")}
}

// push makes an image of small files, as those that a cut hits, and a larger one.
func (b *box) push(t *testing.T, name string, seed int64) runtime.Request {
	t.Helper()
	img := fetchtest.Image(t, node(), fetchtest.Layer(t, seed, 5_000_000), fetchtest.Layer(t, seed+1, 3_000), fetchtest.Layer(t, seed+2, 70_000))
	return runtime.Request{Name: b.reg.Ref(t, name), Digest: b.reg.Push(t, name, img), Pin: true}
}

// afterwards starts a containerd on what a cut left, and gives the agent's driver for it.
func (b *box) afterwards(t *testing.T, cut *powercut.Image) *containerd.Driver {
	t.Helper()
	d := start(t, options{dir: filepath.Join(cut.Mount(t, ""), "c")})
	driver := newContainerd(t, containerd.Options{Address: d.socket(), Source: fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{b.hosts}})})
	t.Cleanup(func() { closeDriver(t, driver) })
	return driver
}

// damage verifies an image: blobs by digest, files by the tar of their layer.
func damage(t *testing.T, d *containerd.Driver, r runtime.Request) runtime.Damage {
	t.Helper()
	found, err := d.Verify(t.Context(), r.Digest, rate.NewLimiter(rate.Inf, fetch.ChunkSize))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func onEachFS(t *testing.T, test func(*testing.T, powercut.FS)) {
	t.Helper()
	for _, fs := range []powercut.FS{powercut.Ext4, powercut.XFS} {
		t.Run(string(fs), func(t *testing.T) { t.Parallel(); test(t, fs) })
	}
}

// TestPowerCutAfterCached cuts the power at the moment that an image shows as held: brought by
// the agent, pulled by the kubelet without sync and then taken over, pulled over CRI.
func TestPowerCutAfterCached(t *testing.T) {
	t.Parallel()
	onEachFS(t, func(t *testing.T, fs powercut.FS) {
		b := newBox(t, fs)
		d := b.containerd(t)
		over := b.overCRI(t)
		for i, who := range []string{"agent", "kubelet", "cri"} {
			r, driver := b.push(t, who+":v1", int64(10*i)), runtime.Driver(d)
			switch who {
			case "kubelet":
				if _, err := b.cri().PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: r.Name.String()}}); err != nil {
					t.Fatal(err)
				}
			case "cri":
				driver = over
			}
			done := make(chan error, 1)
			go func() { done <- driver.Ensure(t.Context(), r, nil) }()
			eventually(t, "the image is held", func() bool {
				h := b.inventory(t, driver)[r.Name]
				return h.Complete && (h.Managed || who == "cri")
			})
			cut := b.disk.Cut(t)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			after := b.afterwards(t, cut)
			if h := b.inventory(t, after)[r.Name]; !h.Complete {
				t.Errorf("%s: after the cut %+v, want it held", who, h)
			}
			if found := damage(t, after, r); found.Found() {
				t.Errorf("%s: reported as held, and a cut then damages it: %s", who, found.What)
			}
		}
	})
}

// TestPowerCutWithoutSync is the control: what containerd unpacks by itself is damaged by a
// cut, counts as held all the same, is not mended by pulling it again, and is by the agent.
func TestPowerCutWithoutSync(t *testing.T) {
	t.Parallel()
	onEachFS(t, func(t *testing.T, fs powercut.FS) {
		b := newBox(t, fs)
		r := b.push(t, "plain:v1", 50)
		if _, err := b.cri().PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: r.Name.String()}}); err != nil {
			t.Fatal(err)
		}
		after := b.afterwards(t, b.disk.Cut(t))
		if !b.inventory(t, after)[r.Name].Complete {
			t.Log("the cut left no image: containerd had not written down that it is there; nothing is shown by this run")
			return
		}
		found := damage(t, after, r)
		if !found.Found() {
			t.Logf("on %s of this machine a cut right after containerd's own pull damaged nothing: the protection is not shown to be needed here", fs)
			return
		}
		t.Logf("containerd's own pull, cut: %s", found.What)
		if err := after.Ensure(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
		if again := damage(t, after, r); !again.Found() {
			t.Error("bringing the image again mended it: there would be no need to discard")
		}
		if err := after.Discard(t.Context(), found); err != nil {
			t.Fatal(err)
		}
		if err := after.Ensure(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
		if again := damage(t, after, r); again.Found() || !b.inventory(t, after)[r.Name].Complete {
			t.Errorf("given up and brought anew, it still has: %+v", again)
		}
	})
}

// TestPowerCutAtAnyTime cuts at a random moment of each of several pulls: what was held is
// held and intact then, and what was not comes, on the disk that the cut left.
func TestPowerCutAtAnyTime(t *testing.T) {
	t.Parallel()
	const images = 3
	onEachFS(t, func(t *testing.T, fs powercut.FS) {
		b := newBox(t, fs)
		d := b.containerd(t)
		b.reg.Set(fetchtest.Faults{Rate: 8_000_000})
		var requests []runtime.Request
		var cuts []*powercut.Image
		for i := range images {
			r := b.push(t, fmt.Sprintf("app%d:v1", i), int64(100+10*i))
			requests = append(requests, r)
			done := make(chan error, 1)
			go func() { done <- d.Ensure(t.Context(), r, nil) }()
			time.Sleep(rand.N(1500 * time.Millisecond))
			cuts = append(cuts, b.disk.Cut(t))
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		b.reg.Set(fetchtest.Faults{})
		for held, cut := range cuts {
			b.wantIntact(t, b.afterwards(t, cut), requests, held)
		}
	})
}

// wantIntact wants the first images to be held, and all that are held to be intact, now and
// when the others were brought.
func (b *box) wantIntact(t *testing.T, after *containerd.Driver, requests []runtime.Request, first int) {
	t.Helper()
	inv := b.inventory(t, after)
	for i, r := range requests {
		if inv[r.Name].Complete {
			continue
		}
		if i < first {
			t.Errorf("%s was held before the cut and is not after it", r.Name)
		}
		// Bytes that were not written are found out by their digest, and fetched anew.
		eventually(t, "the image comes after the cut", func() bool { return after.Ensure(t.Context(), r, nil) == nil })
	}
	for _, r := range requests {
		if found := damage(t, after, r); found.Found() {
			t.Errorf("%s, held since before the cut: %v: %s", r.Name, inv[r.Name].Complete, found.What)
		}
	}
}

// TestPowerCutResumes: what had reached the disk of half a layer is not fetched again.
func TestPowerCutResumes(t *testing.T) {
	t.Parallel()
	onEachFS(t, func(t *testing.T, fs powercut.FS) {
		b := newBox(t, fs)
		d := b.containerd(t)
		b.reg.Set(fetchtest.Faults{CutAfter: 5_000_000, Stall: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := b.ensured(ctx, d)
		b.written(t, 5_000_000, 0)
		b.sync(t) // the kernel does so by itself within half a minute
		cut := b.disk.Cut(t)
		cancel()
		if err := <-done; err == nil {
			t.Fatal("the pull ended before the cut")
		}
		b.reg.Set(fetchtest.Faults{})
		after := b.afterwards(t, cut)
		if err := after.Ensure(t.Context(), b.request, nil); err != nil {
			t.Fatal(err)
		}
		if n := b.repeated(); n != 0 {
			t.Errorf("%d bytes were fetched twice", n)
		}
		if found := damage(t, after, b.request); found.Found() {
			t.Error(found.What)
		}
		b.report(t, "resumed after a power cut")
	})
}

// sync has the kernel write out what it holds back.
func (b *box) sync(t *testing.T) {
	t.Helper()
	f, err := os.Open(b.disk.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
		t.Fatal(err)
	}
}
