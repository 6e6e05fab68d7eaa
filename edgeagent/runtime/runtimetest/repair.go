package runtimetest

import (
	"testing"
	"time"

	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

func testForeign(t *testing.T, s *suite) {
	if s.Name == nil {
		t.Skip("the harness cannot name images by hand")
	}
	img, name, d := s.push(t, "app:v1", 1000)
	s.ensure(t, name, d)
	foreign := s.reg.Ref(t, "by/hand:1")
	s.Name(t, foreign, d)
	eventually(t, "the foreign name is listed", func() bool { _, ok := s.inventory(t)[foreign]; return ok })
	got := s.inventory(t)[foreign]
	// CRI does not tell what a tag of another repository points at.
	known := got.Digest == d || got.Digest == "" && !s.info.Can(runtime.CanNameByDigest)
	if !known || got.Managed || got.ID != fetchtest.ConfigDigest(t, img).String() || !got.Complete {
		t.Errorf("%s = %+v, want %s, complete, unmanaged", foreign, got, d)
	}
	if s.info.Can(runtime.CanUntag) {
		if err := s.Driver.Remove(t.Context(), runtime.NamesOf(name, d)...); err != nil {
			t.Fatal(err)
		}
		s.wantGone(t, runtime.NamesOf(name, d)...)
		s.wantHeld(t, d, foreign)
	}
}

func testUnnamed(t *testing.T, s *suite) {
	if s.Unname == nil {
		t.Skip("the harness cannot remove names by hand")
	}
	_, name, d := s.push(t, "app:v1", 1000)
	s.ensure(t, name, d)
	s.reg.Forget()
	s.Unname(t, name)
	eventually(t, "the name is gone", func() bool { _, ok := s.inventory(t)[name]; return !ok })
	s.ensure(t, name, d)
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
	if sent := s.reg.Sent(); sent != 0 {
		t.Errorf("bringing a name back cost %d bytes", sent)
	}
}

func testDamaged(t *testing.T, s *suite) {
	if s.Damage == nil {
		t.Skip("the harness cannot damage images")
	}
	img, name, d := s.push(t, "app:v1", 100_000)
	s.ensure(t, name, d)
	config := fetchtest.ConfigDigest(t, img)
	s.Damage(t, config)
	eventually(t, "the image shows as incomplete", func() bool { return !s.inventory(t)[name].Complete })
	s.reg.Forget()
	s.ensure(t, name, d)
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
	if sent, want := s.reg.Sent(), s.reg.Sent(config); want == 0 || sent != want {
		t.Errorf("bringing back one blob cost %d bytes, %d of them the blob's", sent, want)
	}
}

func testHints(t *testing.T, s *suite) {
	hints := s.Driver.Changes(t.Context())
	if hints == nil {
		t.Skipf("driver %s has no hints", s.info.Name)
	}
	img, name, d := s.push(t, "app:v1", 1000)
	s.ensure(t, name, d)
	if s.Unname != nil {
		s.hinted(t, hints, "a name was removed", func() { s.Unname(t, name) })
		s.ensure(t, name, d)
	}
	if s.Damage != nil {
		s.hinted(t, hints, "a blob was removed", func() { s.Damage(t, fetchtest.ConfigDigest(t, img)) })
	}
}

// hinted wants a hint after something was done, and none while nothing is done.
func (s *suite) hinted(t *testing.T, hints <-chan struct{}, what string, do func()) {
	t.Helper()
	for quiet := false; !quiet; {
		select {
		case <-hints:
		case <-time.After(2 * time.Second):
			quiet = true
		}
	}
	do()
	select {
	case <-hints:
	case <-time.After(patience):
		t.Errorf("no hint that %s", what)
	}
}
