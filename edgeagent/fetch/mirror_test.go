package fetch_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

// stall answers a request for a blob and sends none of it.
func stall(w http.ResponseWriter, r *http.Request, size int) bool {
	w.Header().Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
	return true
}

// TestMirrorThatAnswersAndStalls does not stand before the registry for ever.
func TestMirrorThatAnswersAndStalls(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mirror := fetchtest.NewRegistry(t)
	want := f.behind(t, f.reg.Host, mirror)
	l := fetchtest.Layer(t, 1, 100_000)
	img := fetchtest.Image(t, node, l)
	want.Digest = f.reg.Push(t, "app:v1", img)
	mirror.Push(t, "app:v1", img)
	layer := fetchtest.Digest(t, l)
	mirror.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) {
			return false
		}
		return stall(w, r, len(f.reg.Blob(layer)))
	}})
	if _, err := f.puller(fetch.Options{Stall: 200 * time.Millisecond}).Image(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	f.has(t, layer)
	asked := 0
	for _, r := range mirror.Requests() {
		if strings.HasSuffix(r.URL.Path, layer.String()) {
			asked++
		}
	}
	if asked != 1 || f.reg.Sent(layer) == 0 {
		t.Errorf("the mirror was asked %d times, the registry sent %d bytes, want once and all", asked, f.reg.Sent(layer))
	}
}

// TestRegistryThatStallsIsAskedAgain: there is nobody behind it.
func TestRegistryThatStallsIsAskedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := fetchtest.Layer(t, 1, 100_000)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, l))
	layer := fetchtest.Digest(t, l)
	var stalled atomic.Bool
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) || stalled.Swap(true) {
			return false
		}
		return stall(w, r, len(f.reg.Blob(layer)))
	}})
	if _, err := f.puller(fetch.Options{Stall: 200 * time.Millisecond}).Image(t.Context(), f.want(t, d), nil); err != nil {
		t.Fatal(err)
	}
}
