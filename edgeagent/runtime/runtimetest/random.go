package runtimetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

// model is what the inventory of our names should be after a sequence of calls.
type model map[imageref.Reference]runtime.Held

// testRandom compares a driver with a model over a random sequence of what an agent, its
// restarts and other hands do.
func testRandom(t *testing.T, s *suite) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng, m := rand.New(rand.NewPCG(seed, seed)), model{}
	var digests []digest.Digest
	ids := map[digest.Digest]runtime.Held{}
	base := s.layer(t, 2000)
	for i := range 3 {
		img := s.image(t, base, s.layer(t, 2000))
		d := s.reg.Push(t, fmt.Sprintf("app:i%d", i), img)
		s.reg.Push(t, fmt.Sprintf("other:i%d", i), img)
		digests = append(digests, d)
		ids[d] = runtime.Held{Digest: d, ID: fetchtest.ConfigDigest(t, img).String(), Size: fetchtest.Size(t, img), Complete: true}
	}
	names := []imageref.Reference{s.reg.Ref(t, "app:v1"), s.reg.Ref(t, "app:v2"), s.reg.Ref(t, "other:v1")}
	for range 60 {
		name, d := names[rng.IntN(len(names))], digests[rng.IntN(len(digests))]
		switch op := rng.IntN(8); op {
		case 0, 1, 2:
			pin := rng.IntN(2) == 0
			if err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d, Pin: pin}, nil); err != nil {
				t.Fatal(err)
			}
			for _, n := range runtime.NamesOf(name, d) {
				held := ids[d]
				held.Managed, held.Pinned = true, pin
				m[n] = held
			}
		case 3, 4:
			m.remove(t, s, some(rng, m, name)...)
		case 5:
			m.release(t, s, some(rng, m, name)...)
		case 6:
			s.reopen(t)
		case 7:
			if _, ok := m[name]; ok && s.Unname != nil {
				s.Unname(t, name)
				delete(m, name)
			}
		}
		if diff := cmp.Diff(m, s.ours(t), whenever, cmp.AllowUnexported(imageref.Reference{})); diff != "" {
			t.Fatalf("inventory (-want +got):\n%s", diff)
		}
	}
}

// some gives one or two names that are there, and perhaps one that is not.
func some(rng *rand.Rand, m model, name imageref.Reference) []imageref.Reference {
	out := []imageref.Reference{name}
	for n := range m {
		if rng.IntN(3) == 0 && len(out) < 3 {
			out = append(out, n)
		}
	}
	return out
}

func (m model) remove(t *testing.T, s *suite, names ...imageref.Reference) {
	t.Helper()
	if err := s.Driver.Remove(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		delete(m, n)
	}
}

func (m model) release(t *testing.T, s *suite, names ...imageref.Reference) {
	t.Helper()
	if err := s.Driver.Release(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if held, ok := m[n]; ok {
			held.Managed, held.Pinned = false, false
			m[n] = held
		}
	}
}

// ours gives the part of the inventory that this test's registry serves.
func (s *suite) ours(t *testing.T) model {
	t.Helper()
	m := model{}
	for name, held := range s.inventory(t) {
		if name.Registry() == s.reg.Host {
			m[name] = held
		}
	}
	return m
}
