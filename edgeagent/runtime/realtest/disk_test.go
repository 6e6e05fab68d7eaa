package realtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/reserve"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/containerd"
	"edgecache.dev/edgeagent/runtime/layout"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/test/lab/powercut"
)

const (
	smallDisk = 400 << 20
	spared    = 60 << 20 // the reserve on it
)

// small is an agent whose images are on a small disk.
type small struct {
	*testing.T
	dir        string // on the disk
	reg        *fetchtest.Registry
	agent      *edgeagent.Agent
	generation int64

	mu    sync.Mutex // guards what follows
	last  *v1alpha1.NodeImageCacheStatus
	least int64 // bytes that were available at the worst
}

func newSmall(t *testing.T, driver func(s *small, hosts string, source *fetch.Registry) runtime.Driver) *small {
	t.Helper()
	disk := powercut.New(t, powercut.Ext4, smallDisk)
	s := &small{T: t, dir: filepath.Join(disk.Dir(), "c"), reg: fetchtest.NewRegistry(t), least: smallDisk}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	hosts := s.reg.HostsDir(t, "")
	source := fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{hosts}})
	d := driver(s, hosts, source)
	memory, _, err := store.Open(t.Context(), t.TempDir(), "n1", func(context.Context, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s.agent = edgeagent.New(memory, d, s, edgeagent.Options{
		Poll: 500 * time.Millisecond, Disk: statfs, Reserve: reserve.Reserve{Bytes: spared}, Prober: source,
	})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.agent.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { s.sample(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		if err := errors.Join(d.Close(), memory.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func statfs(path string) (*v1alpha1.DiskStatus, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil, err
	}
	return &v1alpha1.DiskStatus{Capacity: int64(fs.Blocks) * fs.Bsize, Available: int64(fs.Bavail) * fs.Bsize}, nil
}

// sample looks at the disk all the time.
func (s *small) sample(ctx context.Context) {
	for ctx.Err() == nil {
		disk, err := statfs(s.dir)
		if err != nil {
			s.Error(err)
			return
		}
		s.mu.Lock()
		s.least = min(s.least, disk.Available)
		s.mu.Unlock()
		time.Sleep(2 * time.Millisecond)
	}
}

// untouched wants the reserve never to have been touched.
func (s *small) untouched() {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Logf("%.1f MiB were free at the worst, the reserve is %d MiB", float64(s.least)/(1<<20), spared>>20)
	if s.least < spared {
		s.Errorf("%d bytes were free at the worst, the reserve is %d", s.least, spared)
	}
}

// Offer takes the newest status.
func (s *small) Offer(_ types.UID, status *v1alpha1.NodeImageCacheStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = status
}

// push makes an image of one layer.
func (s *small) push(name string, mib int64, priority int32) v1alpha1.NodeImage {
	s.Helper()
	d := s.reg.Push(s.T, name+":v1", fetchtest.Image(s.T, node(), fetchtest.Layer(s.T, time.Now().UnixNano(), mib<<20)))
	return v1alpha1.NodeImage{Name: s.reg.Ref(s.T, name+":v1").String(), Digest: d.String(), Priority: priority}
}

func (s *small) wish(images []v1alpha1.NodeImage, remove ...v1alpha1.NodeImage) {
	s.generation++
	spec := v1alpha1.NodeImageCacheSpec{NodeUID: "node", Images: images}
	for _, r := range remove {
		spec.Remove = append(spec.Remove, v1alpha1.RemoveImage{Name: r.Name, Digest: r.Digest, Since: metav1.Now()})
	}
	s.agent.Hear(&v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: s.generation}, Spec: spec})
}

// until waits until an image has a phase, with a reason.
func (s *small) until(img v1alpha1.NodeImage, phase v1alpha1.ImagePhase, reason string) {
	s.Helper()
	var now v1alpha1.NodeImageStatus
	defer func() {
		if s.Failed() {
			s.Logf("%s is %+v", img.Name, now)
		}
	}()
	eventually(s.T, fmt.Sprintf("%s is %s %s", img.Name, phase, reason), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.last == nil || s.last.ObservedGeneration != s.generation {
			return false
		}
		at := slices.IndexFunc(s.last.Images, func(i v1alpha1.NodeImageStatus) bool { return i.Name == img.Name })
		if at < 0 {
			return false
		}
		now = s.last.Images[at]
		return now.Phase == phase && now.Reason == reason
	})
	if reason != "" {
		s.Logf("%s: %s", img.Name, now.Message)
	}
}

// TestSmallDisk: on a real file system that is nearly full, what is too large waits, the
// right image makes way for a more important one, a disk that others fill stops a pull and is
// survived, and the reserve is free at any instant.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		driver                func(s *small, hosts string, source *fetch.Registry) runtime.Driver
		low, mid, high, large int64 // MiB of the images
	}{
		"containerd": {func(s *small, hosts string, source *fetch.Registry) runtime.Driver {
			d := start(s.T, options{dir: s.dir})
			d.trust(s.T, hosts)
			return newContainerd(s.T, containerd.Options{Address: d.socket(), Source: source})
		}, 30, 31, 60, 150}, // which take twice as much, and are thought to take 3.5 times as much
		"layout": {func(s *small, _ string, source *fetch.Registry) runtime.Driver {
			d, err := layout.New(layout.Options{Dir: s.dir, Source: source, PollEvery: 100 * time.Millisecond})
			if err != nil {
				s.Fatal(err)
			}
			return d
		}, 90, 91, 140, 350},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSmall(t, tc.driver)
			low, mid, high, large := s.push("low", tc.low, 0), s.push("mid", tc.mid, 1), s.push("high", tc.high, 2), s.push("large", tc.large, 3)
			s.wish([]v1alpha1.NodeImage{low, mid})
			s.until(low, v1alpha1.PhaseCached, "")
			s.until(mid, v1alpha1.PhaseCached, "")
			s.wish([]v1alpha1.NodeImage{low, mid, high, large})
			s.until(large, v1alpha1.PhaseFailed, v1alpha1.ReasonInsufficientDisk)
			s.until(high, v1alpha1.PhaseCached, "")
			s.until(low, v1alpha1.PhaseFailed, v1alpha1.ReasonInsufficientDisk)
			s.until(mid, v1alpha1.PhaseCached, "")
			s.untouched()
			s.filledFromOutside(low, mid, high)
		})
	}
}

// filledFromOutside has an image come back slowly in the place of another one, and the disk
// filled meanwhile.
func (s *small) filledFromOutside(low, mid, high v1alpha1.NodeImage) {
	s.Helper()
	s.reg.Set(fetchtest.Faults{Rate: 5 << 20})
	s.wish([]v1alpha1.NodeImage{low, mid}, high)
	eventually(s.T, "bytes of "+low.Name+" come in", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.ContainsFunc(s.last.Images, func(i v1alpha1.NodeImageStatus) bool { return i.Name == low.Name && i.Phase == v1alpha1.PhasePulling })
	})
	disk, err := statfs(s.dir)
	if err != nil {
		s.Fatal(err)
	}
	ballast := filepath.Join(filepath.Dir(s.dir), "ballast")
	fill(s.T, ballast, disk.Available-1<<20)
	s.until(low, v1alpha1.PhaseFailed, v1alpha1.ReasonInsufficientDisk)
	s.until(mid, v1alpha1.PhaseCached, "")
	if err := os.Remove(ballast); err != nil {
		s.Fatal(err)
	}
	s.reg.Set(fetchtest.Faults{})
	s.until(low, v1alpha1.PhaseCached, "")
}

func fill(t *testing.T, file string, size int64) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close()); err != nil {
		t.Fatal(err)
	}
}
