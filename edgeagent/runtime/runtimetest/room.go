package runtimetest

import (
	"context"
	"errors"
	"testing"

	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

// testRefused: an image that is not let in costs documents only, and what is
// said of it covers what it takes then.
func testRefused(t *testing.T, s *suite) {
	img := s.image(t, s.layer(t, 200_000))
	d := s.reg.Push(t, "app:v1", img)
	full := &runtime.Error{Reason: "InsufficientDisk", Err: errors.New("no room")}
	size := fetchtest.Size(t, img)
	var need runtime.Need
	r := runtime.Request{Name: s.reg.Ref(t, "app:v1"), Digest: d, Size: size, Admit: func(_ context.Context, n runtime.Need) error {
		need = n
		return full
	}}
	if err := s.Driver.Ensure(t.Context(), r, nil); !errors.Is(err, full) || runtime.ReasonOf(err) != full.Reason {
		t.Fatalf("error = %v, want %v", err, full)
	}
	if blob := fetchtest.Blobs(t, img)[1]; s.reg.Sent(blob) != 0 {
		t.Errorf("%d bytes of the layer were sent", s.reg.Sent(blob))
	}
	r.Admit = nil
	if err := s.Driver.Ensure(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	weigher, ok := s.Driver.(runtime.Weigher)
	if !ok {
		t.Fatal("the driver does not weigh images")
	}
	weights, err := weigher.Weigh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var weight int64
	for _, part := range weights[r.Name] {
		weight += part.Size
	}
	if weight < size/2 || weight > need.Total()+size {
		t.Errorf("the image of %d bytes weighs %d, and %+v was said of it", size, weight, need)
	}
}
