package runtimetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

// test is one promise of the contract.
type test struct {
	name  string
	needs []runtime.Capability
	run   func(*testing.T, *suite)
}

func tests() []test {
	resume, untag, pin, byDigest := runtime.CanResume, runtime.CanUntag, runtime.CanPin, runtime.CanNameByDigest
	return []test{
		{"Info", nil, testInfo},
		{"CachedUnderBothNames", nil, testBothNames},
		{"CachedByDigestOnly", nil, testByDigestOnly},
		{"IndexGivesThePlatform", nil, testIndex},
		{"EnsureAgainAsksNobody", nil, testIdempotent},
		{"SecondNameCostsNoBytes", nil, testSecondName},
		{"RefusedPullFetchesNothing", nil, testRefused},
		{"RemovingOneNameKeepsTheOther", []runtime.Capability{untag}, testRemoveOne},
		{"RemovingASharedNameIsRefused", nil, testRemoveShared},
		{"RemovingTheLastNameRemovesContent", nil, testRemoveLast},
		{"MovedTagIsMovedWhenComplete", []runtime.Capability{byDigest}, testMovedTag},
		{"FrozenDigestWinsOverMovedTag", []runtime.Capability{byDigest}, testFrozenDigest},
		{"MovedTagIsNoticed", nil, testTagMovedError},
		{"Pin", []runtime.Capability{pin}, testPin},
		{"PinAlone", []runtime.Capability{pin}, testPinAlone},
		{"Release", []runtime.Capability{pin}, testRelease},
		{"ForeignImages", nil, testForeign},
		{"HandDeletedNameComesBack", nil, testUnnamed},
		{"DamagedImageComesBack", nil, testDamaged},
		{"HintsOfChanges", nil, testHints},
		{"CutConnectionResumes", []runtime.Capability{resume}, testCut},
		{"CancelledPullResumes", []runtime.Capability{resume}, testCancelled},
		{"RestartedAgentResumes", []runtime.Capability{resume}, testRestarted},
		{"RegistryWithoutRanges", nil, testNoRange},
		{"LieIsRefused", nil, testLie},
		{"WrongPlatform", nil, testWrongPlatform},
		{"Refusals", nil, testRefusals},
		{"ErrorsHoldNoCredentials", nil, testSecrets},
		{"SharedLayersAreFetchedOnce", []runtime.Capability{resume}, testShared},
		{"OneDigestUnderTwoNamesAtOnce", nil, testTwoNamesAtOnce},
		{"Progress", []runtime.Capability{runtime.CanProgress}, testProgress},
		{"InUseIsEmptyWithoutContainers", nil, testInUse},
		{"NonsenseIsRefused", nil, testNonsense},
		{"RandomOperations", []runtime.Capability{untag, pin, byDigest}, testRandom},
	}
}

func testInfo(t *testing.T, s *suite) {
	if s.info.Name == "" || s.info.Version == "" || s.info.Platform == "" {
		t.Errorf("info = %+v, want name, version and platform", s.info)
	}
}

// whenever leaves out when names were made.
var whenever = cmpopts.IgnoreFields(runtime.Held{}, "Since")

func testBothNames(t *testing.T, s *suite) {
	img, name, d := s.push(t, "app:v1", 200_000)
	s.ensure(t, name, d)
	pin := s.info.Can(runtime.CanPin)
	want := runtime.Held{
		Digest: d, ID: s.id(t, img, d), Size: fetchtest.Size(t, img),
		Complete: true, Pinned: pin, Managed: pin,
	}
	inv := s.inventory(t)
	if inv[name].Size == 0 && !s.info.Can(runtime.CanNameByDigest) {
		want.Size = 0 // not every runtime tells the compressed size
	}
	for _, n := range runtime.NamesOf(name, d) {
		if diff := cmp.Diff(want, inv[n], whenever); diff != "" {
			t.Errorf("%s (-want +got):\n%s", n, diff)
		}
	}
}

func testByDigestOnly(t *testing.T, s *suite) {
	_, name, d := s.push(t, "app:v1", 1000)
	s.ensure(t, name.WithDigest(d), d)
	s.wantHeld(t, d, name.WithDigest(d))
	s.wantGone(t, name)
}

func testIndex(t *testing.T, s *suite) {
	img := s.image(t, s.layer(t, 1000))
	other := fetchtest.Image(t, "linux/s390x", s.layer(t, 1000))
	d := s.reg.Push(t, "app:v1", fetchtest.Index(t, other, img))
	name := s.reg.Ref(t, "app:v1")
	s.ensure(t, name, d)
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
	if id := s.inventory(t)[name].ID; id != s.id(t, img, d) {
		t.Errorf("ID = %s, want the config of the node's platform", id)
	}
	if n := len(s.reg.Transfers(fetchtest.Blobs(t, other)[1])); n != 0 {
		t.Error("a layer of another platform was fetched")
	}
}

func testIdempotent(t *testing.T, s *suite) {
	_, name, d := s.push(t, "app:v1", 1000)
	s.ensure(t, name, d)
	s.reg.Forget()
	s.ensure(t, name, d)
	s.reopen(t)
	s.ensure(t, name, d)
	for _, req := range s.reg.Requests() {
		t.Errorf("registry was asked for %s although the image is complete", req.URL)
	}
}

func testSecondName(t *testing.T, s *suite) {
	img, first, d := s.push(t, "app:v1", 100_000)
	s.reg.Push(t, "other/app:stable", img)
	s.ensure(t, first, d)
	s.reg.Forget()
	for _, ref := range []string{"app:v2", "other/app:stable"} {
		s.reg.Push(t, ref, img)
		s.ensure(t, s.reg.Ref(t, ref), d)
		s.wantHeld(t, d, runtime.NamesOf(s.reg.Ref(t, ref), d)...)
	}
	sent := s.reg.Sent()
	if !s.info.Can(runtime.CanNameByDigest) {
		sent = s.reg.Sent(fetchtest.Blobs(t, img)[1]) // the runtime may read the config again
	}
	if sent != 0 {
		t.Errorf("two more names of an image cost %d bytes", sent)
	}
	s.wantHeld(t, d, runtime.NamesOf(first, d)...)
}

func testRemoveOne(t *testing.T, s *suite) {
	img, v1, d := s.push(t, "app:v1", 1000)
	v2 := s.reg.Ref(t, "app:v2")
	s.reg.Push(t, "app:v2", img)
	s.ensure(t, v1, d)
	s.ensure(t, v2, d)
	if err := s.Driver.Remove(t.Context(), v1); err != nil {
		t.Fatal(err)
	}
	s.wantGone(t, v1)
	s.wantHeld(t, d, v2, v2.WithDigest(d))
	err := s.Driver.Remove(t.Context(), v2)
	if _, shared := errors.AsType[*runtime.NameSharedError](err); shared && !s.info.Can(runtime.CanNameByDigest) {
		// There the name by digest hangs on the tag.
		s.wantHeld(t, d, v2, v2.WithDigest(d))
		if err := s.Driver.Remove(t.Context(), runtime.NamesOf(v2, d)...); err != nil {
			t.Fatal(err)
		}
		s.wantGone(t, v2, v2.WithDigest(d))
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	s.wantGone(t, v1, v2)
	s.wantHeld(t, d, v2.WithDigest(d))
}

func testRemoveShared(t *testing.T, s *suite) {
	if s.info.Can(runtime.CanUntag) {
		t.Skipf("driver %s can remove one name of several", s.info.Name)
	}
	img, v1, d := s.push(t, "app:v1", 1000)
	v2 := s.reg.Ref(t, "app:v2")
	s.reg.Push(t, "app:v2", img)
	s.ensure(t, v1, d)
	s.ensure(t, v2, d)
	err := s.Driver.Remove(t.Context(), runtime.NamesOf(v1, d)...)
	shared, ok := errors.AsType[*runtime.NameSharedError](err)
	if !ok || len(shared.Others) != 1 || shared.Others[0] != v2 {
		t.Fatalf("error = %v, want a NameSharedError with %s", err, v2)
	}
	s.wantHeld(t, d, v1, v2)
	if err := s.Driver.Remove(t.Context(), v1, v2, v1.WithDigest(d)); err != nil {
		t.Fatal(err)
	}
	s.wantGone(t, v1, v2, v1.WithDigest(d))
}

func testRemoveLast(t *testing.T, s *suite) {
	base := s.layer(t, 1000)
	one, two := s.image(t, base, s.layer(t, 1000)), s.image(t, base, s.layer(t, 1000))
	d1, d2 := s.reg.Push(t, "one:v1", one), s.reg.Push(t, "two:v1", two)
	n1, n2 := s.reg.Ref(t, "one:v1"), s.reg.Ref(t, "two:v1")
	s.ensure(t, n1, d1)
	s.ensure(t, n2, d2)
	absent := s.reg.Ref(t, "never:v1")
	if err := s.Driver.Remove(t.Context(), append(runtime.NamesOf(n1, d1), absent)...); err != nil {
		t.Fatal(err)
	}
	s.wantGone(t, runtime.NamesOf(n1, d1)...)
	s.wantHeld(t, d2, runtime.NamesOf(n2, d2)...)
	if s.Has == nil {
		return
	}
	own := fetchtest.Blobs(t, one)
	eventually(t, "content of the removed image is gone", func() bool { return !s.Has(t, own[2]) && !s.Has(t, own[0]) && !s.Has(t, d1) })
	for _, b := range fetchtest.Blobs(t, two) {
		if !s.Has(t, b) {
			t.Errorf("blob %s of the other image is gone too", b)
		}
	}
}

func testMovedTag(t *testing.T, s *suite) {
	_, name, d1 := s.push(t, "app:v1", 1000)
	s.ensure(t, name, d1)
	next := s.image(t, s.layer(t, 1000))
	d2 := s.reg.Push(t, "app:v1", next)
	s.reg.Set(fetchtest.Faults{Status: 404, Only: "/blobs/" + fetchtest.Blobs(t, next)[1].String()})
	if err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d2}, nil); err == nil {
		t.Fatal("Ensure succeeded without a layer")
	}
	s.wantHeld(t, d1, runtime.NamesOf(name, d1)...)
	s.wantGone(t, name.WithDigest(d2))
	s.reg.Set(fetchtest.Faults{})
	s.ensure(t, name, d2)
	s.wantHeld(t, d2, runtime.NamesOf(name, d2)...)
	s.wantHeld(t, d1, name.WithDigest(d1))
}

func testFrozenDigest(t *testing.T, s *suite) {
	_, name, frozen := s.push(t, "app:v1", 1000)
	s.push(t, "app:v1", 1000)
	s.ensure(t, name, frozen)
	s.wantHeld(t, frozen, runtime.NamesOf(name, frozen)...)
}

func testTagMovedError(t *testing.T, s *suite) {
	if s.info.Can(runtime.CanNameByDigest) {
		t.Skipf("driver %s fetches the frozen digest whatever the tag is", s.info.Name)
	}
	_, name, frozen := s.push(t, "app:v1", 1000)
	_, _, moved := s.push(t, "app:v1", 1000)
	err := s.refused(t, name, frozen, runtime.TagMoved)
	for _, d := range []string{frozen.String(), moved.String()} {
		if !contains(err, d) {
			t.Errorf("error = %v, want %s in it", err, d)
		}
	}
}

func testPin(t *testing.T, s *suite) {
	_, name, d := s.push(t, "app:v1", 1000)
	for _, pin := range []bool{false, true, false} {
		if err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d, Pin: pin}, nil); err != nil {
			t.Fatal(err)
		}
		inv := s.inventory(t)
		for _, n := range runtime.NamesOf(name, d) {
			if got := inv[n]; got.Pinned != pin || !got.Managed {
				t.Errorf("%s = %+v, want managed, pinned %v", n, got, pin)
			}
		}
		if s.Pinned != nil {
			eventually(t, "the kubelet sees the pin change", func() bool { return s.Pinned(t, name) == pin })
		}
	}
}

// testPinAlone: what others brought is pinned without being managed.
func testPinAlone(t *testing.T, s *suite) {
	_, name, d := s.push(t, "app:v1", 1000)
	s.ensure(t, name, d)
	if err := s.Driver.Release(t.Context(), runtime.NamesOf(name, d)...); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Driver.Pin(t.Context(), name, s.reg.Ref(t, "never:v1")); err != nil {
			t.Fatal(err)
		}
		s.wantHeld(t, d, runtime.NamesOf(name, d)...)
		inv := s.inventory(t)
		if got := inv[name]; got.Managed || !got.Pinned {
			t.Errorf("%s = %+v, want it pinned and not managed", name, got)
		}
		// Without names by digest of their own it is the image that is pinned.
		if got := inv[name.WithDigest(d)]; got.Managed || got.Pinned && s.info.Can(runtime.CanNameByDigest) {
			t.Errorf("%s = %+v, want neither managed nor pinned", name.WithDigest(d), got)
		}
		s.wantGone(t, s.reg.Ref(t, "never:v1"))
	}
	if s.Pinned != nil {
		eventually(t, "the kubelet sees the pin", func() bool { return s.Pinned(t, name) })
	}
}

func testRelease(t *testing.T, s *suite) {
	_, name, d := s.push(t, "app:v1", 1000)
	s.ensure(t, name, d)
	names := append(runtime.NamesOf(name, d), s.reg.Ref(t, "never:v1"))
	for range 2 {
		if err := s.Driver.Release(t.Context(), names...); err != nil {
			t.Fatal(err)
		}
		s.wantHeld(t, d, runtime.NamesOf(name, d)...)
		for _, n := range runtime.NamesOf(name, d) {
			if got := s.inventory(t)[n]; got.Managed || got.Pinned {
				t.Errorf("%s = %+v, want neither managed nor pinned", n, got)
			}
		}
	}
	if s.Pinned != nil {
		eventually(t, "the kubelet sees the pin go", func() bool { return !s.Pinned(t, name) })
	}
}

func testInUse(t *testing.T, s *suite) {
	used, err := s.Driver.InUse(t.Context())
	if err != nil || used == nil || len(used) != 0 {
		t.Errorf("InUse = %v, %v, want an empty set", used, err)
	}
}

func testNonsense(t *testing.T, s *suite) {
	_, name, d := s.push(t, "app:v1", 1000)
	other := fetchtest.Digest(t, s.layer(t, 10))
	for what, r := range map[string]runtime.Request{
		"no name":         {Digest: d},
		"no digest":       {Name: name},
		"another digest":  {Name: name.WithDigest(d), Digest: other},
		"digest of a sha": {Name: name, Digest: "sha512:00"},
	} {
		if err := s.Driver.Ensure(t.Context(), r, nil); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
