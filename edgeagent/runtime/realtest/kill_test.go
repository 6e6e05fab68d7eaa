package realtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/containerd"
	"edgecache.dev/edgeagent/runtime/cri"
	"edgecache.dev/edgeagent/runtime/runtimetest"
)

// world is a registry with one image of a large layer, and a containerd.
type world struct {
	*daemon
	reg     *fetchtest.Registry
	request runtime.Request
	layer   digest.Digest
	size    int64 // of the image
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	w := &world{daemon: start(t, o), reg: fetchtest.NewRegistry(t)}
	w.trust(t, w.reg.HostsDir(t, ""))
	img := fetchtest.Image(t, node(), fetchtest.Layer(t, time.Now().UnixNano(), 8_000_000))
	w.request = runtime.Request{Name: w.reg.Ref(t, "app:v1"), Digest: w.reg.Push(t, "app:v1", img), Pin: true}
	w.layer, w.size = fetchtest.Blobs(t, img)[1], fetchtest.Size(t, img)
	return w
}

func (w *world) containerd(t *testing.T, change ...func(*containerd.Options)) *containerd.Driver {
	t.Helper()
	o := containerd.Options{Address: w.socket(), Source: fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{w.hostsDir()}})}
	for _, f := range change {
		f(&o)
	}
	d := newContainerd(t, o)
	t.Cleanup(func() { closeDriver(t, d) })
	return d
}

func (w *world) overCRI(t *testing.T) *cri.Driver {
	t.Helper()
	d := newCRI(t, cri.Options{Address: w.socket()})
	t.Cleanup(func() { closeDriver(t, d) })
	return d
}

func closeDriver(t *testing.T, d runtime.Driver) {
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// patience bounds each wait: how long a machine may be busy with other tests.
const patience = 3 * time.Minute

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s not: %s", patience, what)
		}
	}
}

// written waits until the first n bytes of the layer are sent, and containerd has them on
// disk, but for those that a puller may hold back until it has more.
func (w *world) written(t *testing.T, n, heldBack int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d bytes of the layer are written", n), func() bool {
		return w.reg.Sent(w.layer) >= n && runtimetest.Written(t, w.client.ContentStore(), w.layer) >= n-heldBack
	})
}

// ensured calls Ensure in the background.
func (w *world) ensured(ctx context.Context, d runtime.Driver) <-chan error {
	done := make(chan error, 1)
	go func() { done <- d.Ensure(ctx, w.request, nil) }()
	return done
}

// repeated gives how many bytes of the layer were sent more than once.
func (w *world) repeated() (n int64) {
	next := int64(0)
	for _, tr := range w.reg.Transfers(w.layer) {
		n += max(0, next-tr.First)
		next = tr.First + tr.Sent
	}
	return n
}

func (w *world) report(t *testing.T, what string) {
	t.Helper()
	t.Logf("%s: image %d bytes, registry sent %d in %d transfers, %d bytes of the layer twice",
		what, w.size, w.reg.Sent(), len(w.reg.Transfers()), w.repeated())
}

// TestContainerdKilled kills containerd in the middle of a pull. What it had written is
// there when it comes back: only the rest is asked for.
func TestContainerdKilled(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		driver    func(*testing.T, *world) runtime.Driver
		unwritten int64
	}{
		"containerd": {func(t *testing.T, w *world) runtime.Driver {
			// The driver notices when it writes, or asks for more. Not before the kill: then
			// it would get the rest.
			return w.containerd(t, func(o *containerd.Options) { o.Fetch.Stall = 20 * time.Second })
		}, 0},
		"cri": {func(t *testing.T, w *world) runtime.Driver { return w.overCRI(t) }, copyBuffer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			d := tc.driver(t, w)
			// All that is sent is written before the kill: what is lost is lost by containerd.
			w.reg.Set(fetchtest.Faults{CutAfter: 5_000_000, Stall: true})
			done := w.ensured(t.Context(), d)
			w.written(t, 5_000_000, tc.unwritten)
			w.kill(t)
			if err := <-done; runtime.ReasonOf(err) != fetch.RuntimeError || !runtime.Transient(err) {
				t.Fatalf("error = %v, reason %s, want a transient RuntimeError", err, runtime.ReasonOf(err))
			}
			if _, err := d.Inventory(t.Context()); err == nil {
				t.Error("Inventory answers without a runtime")
			}
			w.reg.Set(fetchtest.Faults{})
			w.restart(t)
			eventually(t, "the same driver works again", func() bool { return d.Ensure(t.Context(), w.request, nil) == nil })
			w.held(t, d)
			if n := w.repeated(); n > tc.unwritten {
				t.Errorf("%d bytes of the layer were sent twice, at most %d may be", n, tc.unwritten)
			}
			w.report(t, name+" driver")
			w.noLeases(t)
		})
	}
}

// TestLinkDownForLong is a registry that is away for longer than containerd itself tries
// again: the pull fails, and a later one goes on where it ended.
func TestLinkDownForLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.overCRI(t)
	var up atomic.Int64 // how many requests for the layer are served before it is away
	w.reg.Set(fetchtest.Faults{CutAfter: 3_000_000, Before: func(rw http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, w.layer.String()) || up.Add(-1) >= 0 {
			return false
		}
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	}})
	var failures int
	for range 10 {
		up.Store(1)
		if err := <-w.ensured(t.Context(), d); err == nil {
			break
		}
		failures++
	}
	w.held(t, d)
	if n := w.repeated(); failures == 0 || n > int64(failures)*copyBuffer {
		t.Errorf("%d failed pulls, %d bytes sent twice, want some and at most %d", failures, n, int64(failures)*copyBuffer)
	}
	w.report(t, "cri driver, link down for long")
}

// held wants the image to be complete under both names, and to be seen by the kubelet.
func (w *world) held(t *testing.T, d runtime.Driver) {
	t.Helper()
	inv, err := d.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range runtime.NamesOf(w.request.Name, w.request.Digest) {
		if got := inv[name]; !got.Complete || got.Digest != w.request.Digest {
			t.Errorf("%s = %+v, want %s, complete", name, got, w.request.Digest)
		}
		eventually(t, "the kubelet sees "+name.String(), func() bool { return w.status(t, name.String()) != nil })
	}
}

// noLeases wants nothing of a finished pull to be left.
func (w *world) noLeases(t *testing.T) {
	t.Helper()
	ls, err := w.client.LeasesService().List(t.Context(), `labels."edgecache.dev/pull"`)
	if err != nil || len(ls) != 0 {
		t.Errorf("leases = %v, %v, want none", ls, err)
	}
	ingests, err := w.client.ContentStore().ListStatuses(t.Context())
	if err != nil || len(ingests) != 0 {
		t.Errorf("ingests = %v, %v, want none", ingests, err)
	}
}

// TestGarbageCollectionSparesHalfAPull collects garbage between the halves of a pull.
func TestGarbageCollectionSparesHalfAPull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	w.half(t, d)
	for range 3 {
		w.collect(t)
	}
	w.powerCycle(t)
	if err := d.Ensure(t.Context(), w.request, nil); err != nil {
		eventually(t, "the driver finds containerd again", func() bool { return d.Ensure(t.Context(), w.request, nil) == nil })
	}
	w.held(t, d)
	if n := w.repeated(); n != 0 {
		t.Errorf("%d bytes sent twice", n)
	}
	w.report(t, "garbage collected and containerd restarted in between")
}

func (w *world) powerCycle(t *testing.T) {
	t.Helper()
	w.kill(t)
	w.restart(t)
}

var errStop = errors.New("the test ends the call")

// half pulls most of the layer and ends the call.
func (w *world) half(t *testing.T, d runtime.Driver) {
	t.Helper()
	w.reg.Set(fetchtest.Faults{CutAfter: 5_000_000, Stall: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := w.ensured(ctx, d)
	w.written(t, 5_000_000, 0)
	cancel(errStop)
	if err := <-done; !errors.Is(err, errStop) {
		t.Fatalf("error = %v, want %v", err, errStop)
	}
	w.reg.Set(fetchtest.Faults{})
}
