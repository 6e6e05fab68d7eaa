package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

func TestImageFromIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	amd := fetchtest.Image(t, "linux/amd64", fetchtest.Layer(t, 1, 1000))
	arm := fetchtest.Image(t, node, fetchtest.Layer(t, 2, 100_000), fetchtest.Layer(t, 3, 1000), fetchtest.Layer(t, 2, 100_000))
	index := fetchtest.Index(t, amd, arm)
	d := f.reg.Push(t, "app:v1", index)
	var last fetch.Progress
	got, err := f.puller(fetch.Options{}).Image(t.Context(), f.want(t, d), func(p fetch.Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	if got.Target.Digest != d || got.Manifest.Digest != fetchtest.Digest(t, arm) || got.Config.Digest != fetchtest.ConfigDigest(t, arm) || len(got.Layers) != 3 {
		t.Errorf("image = %+v", got)
	}
	size := fetchtest.Size(t, arm)
	if diff := cmp.Diff(fetch.Progress{Size: size, Done: size}, last); diff != "" || got.Size != size {
		t.Errorf("size %d, last report (-want +got):\n%s", got.Size, diff)
	}
	f.has(t, append(fetchtest.Blobs(t, arm), d, got.Manifest.Digest)...)
	if _, err := f.store.Info(t.Context(), fetchtest.Digest(t, amd)); !errdefs.IsNotFound(err) {
		t.Errorf("the other platform's manifest: %v, want not found", err)
	}
	var blobs int64
	for _, b := range fetchtest.Blobs(t, arm)[:3] {
		blobs += f.reg.Sent(b)
	}
	if sent := f.reg.Sent(); sent != size-got.Manifest.Size || blobs != sent {
		t.Errorf("registry sent %d bytes of blobs, want %d", sent, size-got.Manifest.Size)
	}
}

func TestLabelsKeepTheTree(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	arm := fetchtest.Image(t, node, fetchtest.Layer(t, 2, 1000), fetchtest.Layer(t, 3, 1000))
	index := fetchtest.Index(t, fetchtest.Image(t, "linux/amd64"), arm)
	d := f.reg.Push(t, "app:v1", index)
	if _, err := f.pull(t, d); err != nil {
		t.Fatal(err)
	}
	blobs := fetchtest.Blobs(t, arm)
	want := map[string]string{
		"containerd.io/gc.ref.content.config": blobs[0].String(),
		"containerd.io/gc.ref.content.l.0":    blobs[1].String(),
		"containerd.io/gc.ref.content.l.1":    blobs[2].String(),
	}
	if diff := cmp.Diff(want, f.labels.m[fetchtest.Digest(t, arm)]); diff != "" {
		t.Errorf("labels of the manifest (-want +got):\n%s", diff)
	}
	if got := f.labels.m[d]; got["containerd.io/gc.ref.content.m.1"] != fetchtest.Digest(t, arm).String() || len(got) != 3 {
		t.Errorf("labels of the index = %v, want m.0 to m.2", got)
	}
	before := f.labels.n
	if _, err := f.pull(t, d); err != nil || f.labels.n != before {
		t.Errorf("pulling again: %v, %d label writes, want none", err, f.labels.n-before)
	}
}

func TestWhatIsThereIsNotAskedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	base := fetchtest.Layer(t, 1, 50_000)
	first := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, base, fetchtest.Layer(t, 2, 1000)))
	second := f.reg.Push(t, "app:v2", fetchtest.Image(t, node, base, fetchtest.Layer(t, 3, 1000)))
	if _, err := f.pull(t, first); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pull(t, second); err != nil {
		t.Fatal(err)
	}
	if n := len(f.reg.Transfers(fetchtest.Digest(t, base))); n != 1 {
		t.Errorf("base layer was asked for %d times, want once", n)
	}
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		t.Error("the registry was asked for an image that is complete")
		return false
	}})
	if _, err := f.pull(t, second); err != nil {
		t.Error(err)
	}
}

func TestWrongPlatform(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	amd := fetchtest.Image(t, "linux/amd64", fetchtest.Layer(t, 1, 100_000))
	single := f.reg.Push(t, "app:v1", amd)
	index := f.reg.Push(t, "app:v2", fetchtest.Index(t, amd, fetchtest.Image(t, "linux/s390x")))
	for d, want := range map[digest.Digest]string{
		single: "is for linux/amd64, this node is linux/arm64",
		index:  "has nothing for linux/arm64, only linux/amd64, linux/s390x",
	} {
		_, err := f.pull(t, d)
		if e := reason(t, err, fetch.PlatformMissing); !strings.Contains(e.Error(), want) || fetch.Transient(err) {
			t.Errorf("error = %v, want a permanent one with %q", e, want)
		}
	}
	if n := len(f.reg.Transfers(fetchtest.Blobs(t, amd)[1])); n != 0 {
		t.Error("a layer of another platform was fetched")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		faults fetchtest.Faults
		want   fetch.Error
	}{
		"manifest gone": {fetchtest.Faults{Status: 404, Code: "MANIFEST_UNKNOWN"}, fetch.Error{Reason: fetch.NotFound, Status: 404}},
		"layer gone":    {fetchtest.Faults{Status: 404, Only: "/blobs/"}, fetch.Error{Reason: fetch.NotFound, Status: 404}},
		"denied":        {fetchtest.Faults{Status: 403, Code: "DENIED"}, fetch.Error{Reason: fetch.Unauthorized, Status: 403}},
		"no password":   {fetchtest.Faults{User: "u", Secret: "p"}, fetch.Error{Reason: fetch.Unauthorized, Status: 401}},
		"limited":       {fetchtest.Faults{Status: 429, RetryAfter: "120"}, fetch.Error{Reason: fetch.RateLimited, Status: 429, RetryAfter: 2 * time.Minute}},
		"bad request":   {fetchtest.Faults{Status: 400}, fetch.Error{Reason: fetch.RegistryError, Status: 400}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
			f.reg.Set(tc.faults)
			_, err := f.pull(t, d)
			got := reason(t, err, tc.want.Reason)
			tc.want.Host, tc.want.Err = f.reg.Host, got.Err
			if diff := cmp.Diff(tc.want, *got, cmpopts.EquateErrors()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if n := len(f.reg.Requests()); n > 3 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestOneBlobIsFetchedOnceByTwoPulls(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	base := fetchtest.Layer(t, 1, 300_000)
	var ds []digest.Digest
	for i := range int64(4) {
		ds = append(ds, f.reg.Push(t, fmt.Sprintf("app:v%d", i), fetchtest.Image(t, node, base, fetchtest.Layer(t, 10+i, 1000))))
	}
	f.reg.Set(fetchtest.Faults{Rate: 1_000_000, CutAfter: 200_000, Cuts: 1})
	var wg sync.WaitGroup
	for _, d := range ds {
		wg.Go(func() {
			var last fetch.Progress
			if _, err := f.puller(fetch.Options{}).Image(t.Context(), f.want(t, d), func(p fetch.Progress) { last = p }); err != nil {
				t.Error(err)
			}
			if last.Done != last.Size {
				t.Errorf("last report = %+v", last)
			}
		})
	}
	wg.Wait()
	b := fetchtest.Digest(t, base)
	if sent, size := f.reg.Sent(b), int64(len(f.reg.Blob(b))); sent != size {
		t.Errorf("registry sent %d bytes of the shared layer, want %d", sent, size)
	}
}

func TestWriterIsReopened(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 400_000)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	f.reg.Set(fetchtest.Faults{Rate: 400_000})
	if _, err := f.puller(fetch.Options{Reopen: 300 * time.Millisecond}).Image(t.Context(), f.want(t, d), nil); err != nil {
		t.Fatal(err)
	}
	tr := f.reg.Transfers(fetchtest.Digest(t, l))
	if len(tr) < 3 {
		t.Errorf("%d connections, want at least 3", len(tr))
	}
	for i := 1; i < len(tr); i++ {
		if tr[i].First <= tr[i-1].First {
			t.Errorf("transfers = %+v, want each to go on where the last ended", tr)
		}
	}
	f.has(t, fetchtest.Digest(t, l))
}

func TestCancellingIsImmediate(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]fetchtest.Faults{
		"while reading": {CutAfter: 50_000, Stall: true},
		"while waiting": {Status: 503},
		"while limited": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 100_000)))
			f.reg.Set(faults)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			begun := time.Now()
			_, err := f.puller(fetch.Options{Limiter: rate.NewLimiter(1, fetch.ChunkSize)}).Image(ctx, f.want(t, d), nil)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
				t.Errorf("error = %v after %s", err, time.Since(begun))
			}
			if _, ok := errors.AsType[*fetch.Error](err); ok {
				t.Errorf("%v says that something is wrong", err)
			}
		})
	}
}

func TestDialContextIsUsedForEverything(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := w.Write(f.reg.Blob(digest.Digest(strings.TrimPrefix(req.URL.Path, "/")))); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(elsewhere.Close)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
	f.reg.Set(fetchtest.Faults{Redirect: elsewhere.URL})
	var dials atomic.Int32
	forbidden := elsewhere.Listener.Addr().String()
	f.opts.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		if address == forbidden {
			return nil, errors.New("address is not allowed")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	_, err := f.puller(fetch.Options{Attempts: 1}).Image(t.Context(), f.want(t, d), nil)
	if e := reason(t, err, fetch.NetworkError); !strings.Contains(e.Error(), "address is not allowed") || dials.Load() < 2 {
		t.Errorf("error = %v after %d dials", e, dials.Load())
	}
	forbidden = ""
	if _, err := f.pull(t, d); err != nil {
		t.Error(err)
	}
}

func TestRepositoryFailsOnBrokenConfiguration(t *testing.T) {
	t.Parallel()
	for name, toml := range map[string]string{
		"missing CA": "server = \"https://r.example\"\nca = \"missing.pem\"\n",
		"no pull":    "server = \"http://r.example\"\ncapabilities = [\"push\"]\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.opts.HostsDirs = []string{f.reg.HostsDir(t, toml)}
			_, err := f.pull(t, digest.FromString("x"))
			if e := reason(t, err, fetch.RegistryError); !strings.Contains(e.Error(), "host configuration") {
				t.Errorf("error = %v", e)
			}
		})
	}
}
