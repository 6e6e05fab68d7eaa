package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

func TestCutConnectionsAreResumed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 2_000_000)
	img := fetchtest.Image(t, node, l)
	d := f.reg.Push(t, "app:v1", img)
	f.reg.Set(fetchtest.Faults{CutAfter: 600_000})
	var reports []fetch.Progress
	if _, err := f.puller(fetch.Options{}).Image(t.Context(), f.want(t, d), func(p fetch.Progress) { reports = append(reports, p) }); err != nil {
		t.Fatal(err)
	}
	f.has(t, fetchtest.Digest(t, l))
	transfers := f.reg.Transfers(fetchtest.Digest(t, l))
	next := int64(0)
	for _, tr := range transfers {
		if tr.First != next {
			t.Errorf("asked from %d on, want from %d on: %+v", tr.First, next, transfers)
		}
		next = tr.First + tr.Sent
	}
	if want := (fetchtest.Size(t, img) + 599_999) / 600_000; int64(len(transfers)) != want {
		t.Errorf("%d connections, want %d", len(transfers), want)
	}
	for i, p := range reports {
		if i > 0 && p.Done < reports[i-1].Done {
			t.Errorf("progress goes back: %v", reports)
		}
	}
}

func TestRestartedAgentResumes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 1_000_000)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	f.reg.Set(fetchtest.Faults{CutAfter: 300_000, Stall: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("the agent ends")
	_, err := f.puller(fetch.Options{}).Image(ctx, f.want(t, d), func(p fetch.Progress) {
		if p.Done > 200_000 {
			cancel(stop)
		}
	})
	if !errors.Is(err, stop) {
		t.Fatalf("error = %v, want %v", err, stop)
	}
	have := f.offset(t, fetchtest.Digest(t, l))
	if have < 200_000 {
		t.Fatalf("ingest holds %d bytes after cancelling, want at least 200000", have)
	}
	f.reopen(t)
	f.reg.Set(fetchtest.Faults{})
	var first fetch.Progress
	img, err := f.puller(fetch.Options{}).Image(t.Context(), f.want(t, d), func(p fetch.Progress) {
		if first.Size == 0 {
			first = p
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	tr := f.reg.Transfers(fetchtest.Digest(t, l))
	if got := tr[len(tr)-1].First; got != have {
		t.Errorf("asked from %d on, want from %d on", got, have)
	}
	if want := have + img.Manifest.Size + img.Config.Size; first.Done != want {
		t.Errorf("first report says %d bytes, want %d", first.Done, want)
	}
}

func TestRegistryThatIgnoresRanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 500_000)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	f.reg.Set(fetchtest.Faults{CutAfter: 200_000, Cuts: 1, NoRange: true})
	if _, err := f.pull(t, d); err != nil {
		t.Fatal(err)
	}
	f.has(t, fetchtest.Digest(t, l))
	if tr := f.reg.Transfers(fetchtest.Digest(t, l)); len(tr) != 2 || tr[1].First != 200_000 {
		t.Errorf("transfers = %+v, want two, the second from 200000 on", tr)
	}
}

func TestGivesUpWithoutProgress(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		faults fetchtest.Faults
		reason fetch.Reason
	}{
		"server error": {fetchtest.Faults{Status: 503}, fetch.RegistryError},
		"hang up": {fetchtest.Faults{Before: func(http.ResponseWriter, *http.Request) bool {
			panic(http.ErrAbortHandler)
		}}, fetch.NetworkError},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
			f.reg.Set(tc.faults)
			_, err := f.puller(fetch.Options{Attempts: 2}).Image(t.Context(), f.want(t, d), nil)
			_ = reason(t, err, tc.reason)
			if n := len(f.reg.Requests()); n < 2 {
				t.Errorf("%d requests, want at least 2", n)
			}
		})
	}
}

func TestStalledConnectionIsCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 500_000)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	f.reg.Set(fetchtest.Faults{CutAfter: 200_000, Cuts: 1, Stall: true})
	if _, err := f.puller(fetch.Options{Stall: 200 * time.Millisecond}).Image(t.Context(), f.want(t, d), nil); err != nil {
		t.Fatal(err)
	}
	if tr := f.reg.Transfers(fetchtest.Digest(t, l)); len(tr) != 2 || tr[1].First != 200_000 {
		t.Errorf("transfers = %+v, want two, the second from 200000 on", tr)
	}
	f.answering(func(w http.ResponseWriter, req *http.Request, _ []byte) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-req.Context().Done()
	})
	other := f.reg.Push(t, "app:v2", fetchtest.Image(t, node, fetchtest.Layer(t, 2, 1000)))
	_, err := f.puller(fetch.Options{Stall: 50 * time.Millisecond, Attempts: 1}).Image(t.Context(), f.want(t, other), nil)
	if e := reason(t, err, fetch.NetworkError); !strings.Contains(e.Error(), "went silent for 50ms") {
		t.Errorf("error = %v", e)
	}
}

func TestWrongBytesAreRefusedAndThrownAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 100_000)
	ld := fetchtest.Digest(t, l)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	f.reg.Set(fetchtest.Faults{Lie: ld})
	_, err := f.pull(t, d)
	e := reason(t, err, fetch.DigestMismatch)
	wrong := f.reg.Blob(ld)
	got := digest.FromBytes(append([]byte{wrong[0] ^ 0xff}, wrong[1:]...))
	if !strings.Contains(e.Error(), got.String()) || !strings.Contains(e.Error(), ld.String()) || e.Host != f.reg.Host {
		t.Errorf("error = %v, want host and both digests", e)
	}
	if n := f.offset(t, ld); n != 0 {
		t.Errorf("ingest still holds %d wrong bytes", n)
	}
	if n := len(f.reg.Transfers(ld)); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	f.reg.Set(fetchtest.Faults{})
	if _, err := f.pull(t, d); err != nil {
		t.Errorf("after the lie: %v", err)
	}
	f.has(t, ld)
}

func TestWrongManifestIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
	f.reg.Set(fetchtest.Faults{Lie: d})
	_, err := f.pull(t, d)
	if e := reason(t, err, fetch.DigestMismatch); !strings.Contains(e.Error(), d.String()) {
		t.Errorf("error = %v, want the digest", e)
	}
}

func TestDamagedIngestBeginsAnew(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 100_000)
	ld := fetchtest.Digest(t, l)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	w, err := f.store.Writer(t.Context(), content.WithRef("layer-"+ld.String()), content.WithDescriptor(ocispec.Descriptor{Digest: ld}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("x"), 50_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pull(t, d); err != nil {
		t.Fatal(err)
	}
	f.has(t, ld)
	if tr := f.reg.Transfers(ld); len(tr) != 2 || tr[0].First != 50_000 || tr[1].First != 0 {
		t.Errorf("transfers = %+v, want one from 50000 on and one from 0 on", tr)
	}
}

func TestBlobThatEndsEarlyOnTheRegistry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 100_000)
	ld := fetchtest.Digest(t, l)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	size := int64(len(f.reg.Blob(ld)))
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/blobs/"+ld.String()) {
			return false
		}
		if req.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}
		if _, err := w.Write(make([]byte, size/2)); err != nil { // shorter than it should be
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		return true
	}})
	_, err := f.pull(t, d)
	e := reason(t, err, fetch.RegistryError)
	if e.Status != http.StatusRequestedRangeNotSatisfiable || fetch.Transient(err) {
		t.Errorf("error = %v, want a permanent HTTP 416", e)
	}
}
