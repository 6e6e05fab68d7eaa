package plan

import (
	stdcmp "cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// sandbox is the image of pod sandboxes, which wishes name at times.
var sandbox = ref("r.io/img1:v2")

// TestConverges carries out what Next says on a model of a runtime until there is nothing
// more to do, over random wishes one after the other, and checks the invariants.
func TestConverges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		m := model{holds: runtime.Inventory{sandbox: {Digest: d1, ID: idOf(d1), Complete: true}}, ledger: map[string]store.Entry{}}
		for range 6 {
			in := Input{Desired: randomWish(rng), Names: true, Pins: true, Untags: true, Sandbox: sandbox}
			before := maps.Clone(m.holds)
			for round := 0; ; round++ {
				in.Ledger, in.Inventory = m.ledger, m.holds
				steps := Next(in)
				checkWanted(t, seed, in, steps)
				if !m.carryOut(steps) {
					break
				}
				if round > 5 {
					t.Fatalf("seed %d: does not converge: %+v", seed, steps)
				}
			}
			checkEnd(t, seed, in.Desired, before, m.holds)
		}
	}
}

// model is a runtime and a store that do as they are told.
type model struct {
	holds  runtime.Inventory
	ledger map[string]store.Entry
}

func (m *model) carryOut(s Steps) (did bool) {
	for _, i := range s.Missing {
		for _, n := range runtime.NamesOf(i.Ref, i.Digest) {
			m.holds[n] = runtime.Held{Digest: i.Digest, ID: idOf(i.Digest), Complete: true, Managed: true, Pinned: i.Pin}
		}
	}
	going := slices.Clone(s.Superseded)
	for _, r := range s.Removals {
		going = append(going, r.Names...)
	}
	for _, n := range going {
		delete(m.holds, n)
	}
	for _, n := range s.Release {
		h := m.holds[n]
		h.Managed, h.Pinned = false, false
		m.holds[n] = h
	}
	for _, n := range s.Pin {
		h := m.holds[n]
		h.Pinned = true
		m.holds[n] = h
	}
	for _, e := range s.Save {
		m.ledger[e.Name] = e
	}
	for _, name := range s.Drop {
		delete(m.ledger, name)
	}
	return len(s.Missing)+len(going)+len(s.Release)+len(s.Pin)+len(s.Save)+len(s.Drop) > 0
}

func checkWanted(t *testing.T, seed uint64, in Input, s Steps) {
	t.Helper()
	for _, w := range wishedImages(in.Desired) {
		names := []imageref.Reference{w.Ref}
		if d := stdcmp.Or(w.Digest, in.Inventory[w.Ref].Digest); d != "" {
			names = runtime.NamesOf(w.Ref, d)
		}
		for _, n := range names {
			if slices.Contains(s.Superseded, n) || slices.Contains(s.Release, n) ||
				slices.ContainsFunc(s.Removals, func(r Removal) bool { return slices.Contains(r.Names, n) }) {
				t.Fatalf("seed %d: wanted name %v is to go: %+v", seed, n, s)
			}
		}
	}
}

func checkEnd(t *testing.T, seed uint64, d store.Desired, before, holds runtime.Inventory) {
	t.Helper()
	for _, w := range wishedImages(d) {
		if w.Digest == "" {
			want := before[w.Ref]
			want.Pinned = want.Pinned || w.Ref == sandbox
			if diff := cmp.Diff(want, holds[w.Ref]); diff != "" {
				t.Errorf("seed %d: %v has no digest yet and changed (-before +after):\n%s", seed, w.Ref, diff)
			}
			continue
		}
		if h := holds[w.Ref]; h.Digest != w.Digest || !h.Managed {
			t.Errorf("seed %d: %v is %+v, want %s", seed, w.Ref, h, w.Digest)
		}
	}
	if h := holds[sandbox]; !h.Complete || !h.Pinned {
		t.Errorf("seed %d: the sandbox image is %+v, want it there and pinned", seed, h)
	}
	for _, r := range d.Spec.Remove {
		name := ref(r.Name)
		if name == sandbox {
			continue
		}
		wished := slices.ContainsFunc(wishedImages(d), func(w wished) bool { return w.Ref == name })
		if h, there := holds[name]; there && !wished && h.Digest.String() == r.Digest {
			t.Errorf("seed %d: %s was to be removed and is there", seed, r.Name)
		}
	}
}

func randomWish(rng *rand.Rand) store.Desired {
	d := store.Desired{Known: true}
	for i := range 5 {
		name := fmt.Sprintf("r.io/img%d:v%d", i/2, i)
		dig := digestOf(byte('1' + rng.IntN(4)))
		switch rng.IntN(4) {
		case 2:
			d.Spec.Images = append(d.Spec.Images, byNode(image(name, "")))
		case 0:
			d.Spec.Images = append(d.Spec.Images, image(name, dig, keep(rng.Int32N(3))))
		case 1:
			d.Spec.Remove = append(d.Spec.Remove, v1alpha1.RemoveImage{Name: name, Digest: dig.String(), Since: metav1.NewTime(since.Add(time.Duration(rng.IntN(1000)) * time.Second))})
		}
	}
	return d
}
