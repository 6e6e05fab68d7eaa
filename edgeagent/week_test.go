package edgeagent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/opencontainers/go-digest"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/intake"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/quiet"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// nowhere is a network without anybody.
type nowhere struct{ tries atomic.Int64 }

// RoundTrip finds nobody.
func (n *nowhere) RoundTrip(*http.Request) (*http.Response, error) {
	n.tries.Add(1)
	return nil, syscall.ENETUNREACH
}

// TestAWeekOffline: the whole agent but its runtime, whose node loses its network while half
// of ten images are still to come. Store, log and wake-ups stay within bounds.
func TestAWeekOffline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const images, week = 10, 7 * 24 * time.Hour
		var lines atomic.Int64
		log := quiet.Logger(funcr.New(func(string, string) { lines.Add(1) }, funcr.Options{}))
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), log))
		dir := t.TempDir()
		memory, _, err := store.Open(ctx, dir, "n1", trust)
		if err != nil {
			t.Fatal(err)
		}
		network, contact := &nowhere{}, &local.Contact{}
		client, err := report.NewClient(&rest.Config{Host: "http://api.example", Transport: contact.Wrap(network), QPS: -1}, "n1")
		if err != nil {
			t.Fatal(err)
		}
		reporter := report.NewReporter(client)
		d := newDriver()
		agent := New(memory, d, reporter, Options{Version: "v1"})
		agent.Hear(aWish(images))
		for i := range images / 2 {
			d.hold(fmt.Sprintf("r.io/app%d:v1", i), digestOf(byte('a'+i%6)))
		}
		d.fail(fetch.NetworkError, 1<<20)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := agent.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() { intake.Watch(ctx, client.Caches(), "n1", agent) })
		wg.Go(func() { reporter.Run(ctx) })
		wg.Go(func() { report.Heartbeat(ctx, client) })
		time.Sleep(time.Hour)
		before, early := sum(t, dir), memory.Stats()
		time.Sleep(week - time.Hour)
		after, late := sum(t, dir), memory.Stats()
		cancel()
		wg.Wait()
		size := fileSize(t, dir)
		t.Logf("a week offline with %d images, half of them missing: store %d KiB, %d commits, all in the first hour: %v; %d log lines; %d turns of the loop, %d looks at the runtime, %d attempts; %d tries to reach the API server",
			images, size>>10, late.Commits, before == after && early == late, lines.Load(), agent.pulse.turns, agent.counters.passes, len(d.calls()), network.tries.Load())
		if before != after || early != late {
			t.Error("the store was written although nothing changed")
		}
		for _, bound := range []struct {
			what      string
			got, most int64
		}{
			{"bytes of the store", size, 128 << 10},
			{"log lines", lines.Load(), 1700}, // 9 subjects, hourly
			{"looks at the runtime", agent.counters.passes, 7 * 24 * (images/2*2*13 + 12)},
			{"turns of the loop", agent.pulse.turns, 7 * 24 * (images/2*3*13 + 12)},
			{"tries to reach the API server", network.tries.Load(), 3 * 7 * 24 * 13},
		} {
			if bound.got > bound.most || bound.got == 0 {
				t.Errorf("%s: %d, want 1 to %d", bound.what, bound.got, bound.most)
			}
		}
		if err := memory.Close(); err != nil {
			t.Error(err)
		}
	})
}

// hold has the runtime hold an image as the agent keeps it.
func (d *driver) hold(name string, x digest.Digest) {
	d.with(func() {
		for _, n := range runtime.NamesOf(ref(name), x) {
			d.inventory[n] = runtime.Held{Digest: x, ID: x.Encoded(), Complete: true, Managed: true, Pinned: true}
		}
	})
}

// aWish asks for a number of images.
func aWish(count int) *v1alpha1.NodeImageCache {
	var spec v1alpha1.NodeImageCacheSpec
	for i := range count {
		spec.Images = append(spec.Images, image(fmt.Sprintf("r.io/app%d:v1", i), digestOf(byte('a'+i%6))))
	}
	spec.NodeUID = "node-uid"
	nic := &v1alpha1.NodeImageCache{Spec: spec}
	nic.UID, nic.Generation = "uid", 1
	return nic
}

func sum(t *testing.T, dir string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

func fileSize(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
