package runtimetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

func contains(err error, s string) bool { return err != nil && strings.Contains(err.Error(), s) }

func testCut(t *testing.T, s *suite) {
	img, name, d := s.push(t, "app:v1", 3_000_000)
	layer := fetchtest.Blobs(t, img)[1]
	s.reg.Set(fetchtest.Faults{CutAfter: 1_000_000})
	s.ensure(t, name, d)
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
	s.sentOnce(t, layer)
	if n := len(s.reg.Transfers(layer)); n < 3 {
		t.Errorf("%d connections, want at least 3", n)
	}
	t.Logf("image %d bytes, registry sent %d in %d connections", fetchtest.Size(t, img), s.reg.Sent(), len(s.reg.Transfers()))
}

// half pulls until the registry has sent n bytes of a layer and says nothing more, and the
// runtime has written them, and ends the call there.
func (s *suite) half(t *testing.T, name imageref.Reference, d, layer digest.Digest, n int64) {
	t.Helper()
	s.reg.Set(fetchtest.Faults{CutAfter: n, Stall: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("the test ends the call")
	done := make(chan error, 1)
	go func() { done <- s.Driver.Ensure(ctx, runtime.Request{Name: name, Digest: d}, nil) }()
	store := storeOf(t, cmp.Or(s.State, s.info.Root))
	eventually(t, "half a layer is written", func() bool {
		return s.reg.Sent(layer) >= n && Written(t, store, layer) >= n-s.Unwritten
	})
	cancel(stop)
	select {
	case err := <-done:
		if !errors.Is(err, stop) {
			t.Fatalf("error = %v, want %v", err, stop)
		}
	case <-time.After(patience):
		t.Fatalf("the call goes on %s after it was cancelled", patience)
	}
	s.reg.Set(fetchtest.Faults{})
}

func testCancelled(t *testing.T, s *suite) {
	img, name, d := s.push(t, "app:v1", 2_000_000)
	layer := fetchtest.Blobs(t, img)[1]
	s.half(t, name, d, layer, 1_200_000)
	s.wantGone(t, runtime.NamesOf(name, d)...)
	s.ensure(t, name, d)
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
	s.sentOnce(t, layer)
	t.Logf("image %d bytes, registry sent %d", fetchtest.Size(t, img), s.reg.Sent())
}

func testRestarted(t *testing.T, s *suite) {
	img, name, d := s.push(t, "app:v1", 2_000_000)
	layer := fetchtest.Blobs(t, img)[1]
	s.half(t, name, d, layer, 1_200_000)
	s.reopen(t)
	s.ensure(t, name, d)
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
	s.sentOnce(t, layer)
	t.Logf("image %d bytes, registry sent %d", fetchtest.Size(t, img), s.reg.Sent())
}

func testNoRange(t *testing.T, s *suite) {
	img, name, d := s.push(t, "app:v1", 2_000_000)
	s.reg.Set(fetchtest.Faults{CutAfter: 1_000_000, Cuts: 1, NoRange: true})
	err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d}, nil)
	for range 3 { // drivers that cannot resume leave trying again to the agent
		if err != nil && !s.info.Can(runtime.CanResume) {
			err = s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d}, nil)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
	t.Logf("image %d bytes, registry sent %d", fetchtest.Size(t, img), s.reg.Sent())
}

func testLie(t *testing.T, s *suite) {
	img, name, d := s.push(t, "app:v1", 100_000)
	layer := fetchtest.Blobs(t, img)[1]
	s.reg.Set(fetchtest.Faults{Lie: layer})
	err := s.refused(t, name, d, fetch.DigestMismatch)
	if !contains(err, layer.String()) || strings.Count(err.Error(), "sha256:") < 2 {
		t.Errorf("error = %v, want both digests", err)
	}
	s.wantGone(t, runtime.NamesOf(name, d)...)
	s.reg.Set(fetchtest.Faults{})
	if !s.info.Can(runtime.CanResume) { // the runtime drops the wrong bytes when its garbage is collected
		eventually(t, "the image is pulled", func() bool {
			return s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d}, nil) == nil
		})
	}
	s.ensure(t, name, d)
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
}

func testWrongPlatform(t *testing.T, s *suite) {
	other := fetchtest.Image(t, "linux/s390x", s.layer(t, 1000))
	d := s.reg.Push(t, "app:v1", fetchtest.Index(t, other))
	name := s.reg.Ref(t, "app:v1")
	err := s.refused(t, name, d, fetch.PlatformMissing)
	if runtime.Transient(err) {
		t.Errorf("%v is transient", err)
	}
	s.wantGone(t, runtime.NamesOf(name, d)...)
}

func testRefusals(t *testing.T, s *suite) {
	_, name, d := s.push(t, "app:v1", 1000)
	later := "30"
	if !s.info.Can(runtime.CanResume) {
		later = "1" // CRI-O waits and tries again a few times
	}
	for _, tc := range []struct {
		faults    fetchtest.Faults
		want      runtime.Reason
		transient bool
	}{
		{fetchtest.Faults{Status: 404, Code: "MANIFEST_UNKNOWN"}, fetch.NotFound, false},
		{fetchtest.Faults{Status: 401, Code: "UNAUTHORIZED"}, fetch.Unauthorized, false},
		{fetchtest.Faults{Status: 403, Code: "DENIED"}, fetch.Unauthorized, false},
		{fetchtest.Faults{Status: 429, Code: "TOOMANYREQUESTS", RetryAfter: later}, fetch.RateLimited, true},
	} {
		t.Run(strconv.Itoa(tc.faults.Status), func(t *testing.T) {
			s.reg.Set(tc.faults)
			if err := s.refused(t, name, d, tc.want); runtime.Transient(err) != tc.transient {
				t.Errorf("%v: transient %v, want %v", err, !tc.transient, tc.transient)
			}
		})
	}
	s.reg.Set(fetchtest.Faults{})
	s.ensure(t, name, d)
}

func testSecrets(t *testing.T, s *suite) {
	_, name, d := s.push(t, "app:v1", 1000)
	for _, f := range []fetchtest.Faults{
		{User: user, Secret: "another"},
		{User: user, Secret: secret, Status: 403},
		{User: user, Secret: secret, Redirect: "http://" + user + ":" + secret + "@127.0.0.1:1/x?sig=" + secret + "&d="},
	} {
		s.reg.Set(f)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := s.Driver.Ensure(ctx, runtime.Request{Name: name, Digest: d}, nil)
		cancel()
		if err == nil || contains(err, secret) || contains(err, outdated) {
			t.Errorf("error = %v", err)
		}
	}
	s.reg.Set(fetchtest.Faults{User: user, Secret: secret})
	s.ensure(t, name, d)
}

func testShared(t *testing.T, s *suite) {
	base := s.layer(t, 1_000_000)
	s.reg.Set(fetchtest.Faults{Rate: 4_000_000})
	var wg sync.WaitGroup
	for i := range 3 {
		ref := fmt.Sprintf("app%d:v1", i)
		d := s.reg.Push(t, ref, s.image(t, base, s.layer(t, 1000)))
		name := s.reg.Ref(t, ref)
		wg.Go(func() {
			if err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.sentOnce(t, fetchtest.Digest(t, base))
}

func testTwoNamesAtOnce(t *testing.T, s *suite) {
	img, _, d := s.push(t, "app:v1", 500_000)
	s.reg.Set(fetchtest.Faults{Rate: 4_000_000})
	var wg sync.WaitGroup
	for i := range 3 {
		ref := fmt.Sprintf("app:v%d", i)
		s.reg.Push(t, ref, img)
		wg.Go(func() { s.ensureInBackground(t, s.reg.Ref(t, ref), d) })
	}
	wg.Wait()
	for i := range 3 {
		s.wantHeld(t, d, runtime.NamesOf(s.reg.Ref(t, fmt.Sprintf("app:v%d", i)), d)...)
	}
	s.sentOnce(t, fetchtest.Blobs(t, img)[1])
}

func (s *suite) ensureInBackground(t *testing.T, name imageref.Reference, d digest.Digest) {
	if err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d}, nil); err != nil {
		t.Error(err)
	}
}

func testProgress(t *testing.T, s *suite) {
	img, name, d := s.push(t, "app:v1", 1_000_000)
	s.reg.Set(fetchtest.Faults{Rate: 1_000_000, CutAfter: 600_000, Cuts: 1})
	var got []runtime.Progress
	if err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d}, func(p runtime.Progress) { got = append(got, p) }); err != nil {
		t.Fatal(err)
	}
	size := fetchtest.Size(t, img)
	for i, p := range got {
		if p.Size != size || p.Done > size || i > 0 && p.Done < got[i-1].Done {
			t.Errorf("report %d of %v: want size %d and done growing up to it", i, got, size)
		}
	}
	if n := len(got); n < 3 || got[n-1].Done != size {
		t.Errorf("reports = %v, want several, the last with %d bytes", got, size)
	}
}
