package fetch_test

import (
	"context"
	"errors"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

// TestAdmit: before layers are fetched their bytes are told; a refusal ends the
// call, and what is there already is not counted.
func TestAdmit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	img := fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000), fetchtest.Layer(t, 2, 50_000))
	d := f.reg.Push(t, "app:v1", img)
	full := errors.New("no room")
	var asked []int64
	var layers int
	p := f.puller(fetch.Options{})
	p.Admit = func(_ context.Context, toCome int64, needed []ocispec.Descriptor) error {
		asked, layers = append(asked, toCome), len(needed)
		return full
	}
	if _, err := p.Image(t.Context(), f.want(t, d), nil); !errors.Is(err, full) {
		t.Fatalf("error = %v, want %v", err, full)
	}
	var blobs int64
	for _, b := range fetchtest.Blobs(t, img)[1:] { // the config was read to know the platform
		if f.reg.Sent(b) != 0 {
			t.Errorf("%d bytes of %s were sent", f.reg.Sent(b), b)
		}
		blobs += int64(len(f.reg.Blob(b)))
	}
	if len(asked) != 1 || asked[0] != blobs || layers != 2 {
		t.Errorf("asked for %v bytes and %d layers, want %d and 2", asked, layers, blobs)
	}
	full = nil
	if _, err := p.Image(t.Context(), f.want(t, d), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Image(t.Context(), f.want(t, d), nil); err != nil || asked[len(asked)-1] != 0 {
		t.Errorf("%v, asked for %v bytes, want 0 when all is there", err, asked)
	}
}

func TestServes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 1000)))
	r := fetch.NewRegistry(f.opts)
	if err := r.Serves(t.Context(), f.reg.Ref(t, "app:v1"), d); err != nil {
		t.Error(err)
	}
	other := fetchtest.Digest(t, fetchtest.Image(t, node, fetchtest.Layer(t, 2, 1000)))
	_ = reason(t, r.Serves(t.Context(), f.reg.Ref(t, "app:v1"), other), fetch.NotFound)
}
