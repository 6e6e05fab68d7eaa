package evict

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
)

func ref(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func spare(name string, rank Rank, priority int32, usedHoursAgo int) Image {
	return Image{Names: []imageref.Reference{ref(name)}, Rank: rank, Priority: priority, Used: noon.Add(-time.Duration(usedHoursAgo) * time.Hour)}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	images := []Image{
		spare("r.io/low:v1", Wished, -5, 1), spare("r.io/old-low:v1", Wished, -5, 9), spare("r.io/mid:v1", Wished, 0, 0),
		spare("r.io/high:v1", Wished, 10, 0), spare("r.io/kept:v1", Previous, 10, 1), spare("r.io/kept-low:v1", Previous, 0, 1),
		spare("r.io/past:v1", Superseded, 10, 0),
	}
	weights := Weights{ref("r.io/stranger:v1"): {{ID: "base", Size: 1000}}}
	for _, img := range images {
		weights[img.Names[0]] = []runtime.Part{{ID: "base", Size: 1000}, {ID: img.Names[0].String(), Size: 100}}
	}
	for name, tc := range map[string]struct {
		want     int64
		priority int32
		going    []string
		freed    int64
	}{
		"nothing":                      {0, 5, nil, 0},
		"what need not be kept":        {50, 5, []string{"past"}, 100},
		"then what is kept":            {150, 5, []string{"past", "kept-low"}, 200},
		"both of those":                {300, -100, []string{"past", "kept-low", "kept"}, 300},
		"then the least important":     {301, 5, []string{"past", "kept-low", "kept", "old-low"}, 400},
		"longest unused first":         {500, 5, []string{"past", "kept-low", "kept", "old-low", "low"}, 500},
		"never as important":           {601, 10, nil, 600},
		"as much as there is":          {600, 10, []string{"past", "kept-low", "kept", "old-low", "low", "mid"}, 600},
		"not what a stranger holds":    {1000, 100, nil, 700},
		"nothing wished for anything":  {301, -1000, nil, 300},
		"nothing where it is in vain ": {10000, 5, nil, 600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			going, freed := Choose(tc.want, tc.priority, images, weights)
			var names []string
			for _, img := range going {
				path := img.Names[0].String()
				names = append(names, path[len("r.io/"):len(path)-len(":v1")])
			}
			if diff := cmp.Diff(tc.going, names); diff != "" || freed != tc.freed {
				t.Errorf("%d bytes freed, want %d (-want +got):\n%s", freed, tc.freed, diff)
			}
		})
	}
}

// TestChooseIsSparing: a large image makes the small ones before it needless.
func TestChooseIsSparing(t *testing.T) {
	t.Parallel()
	images := []Image{spare("r.io/small:v1", Wished, 0, 5), spare("r.io/large:v1", Wished, 1, 5)}
	weights := Weights{ref("r.io/small:v1"): {{ID: "a", Size: 10}}, ref("r.io/large:v1"): {{ID: "b", Size: 100}}}
	going, freed := Choose(60, 5, images, weights)
	if len(going) != 1 || going[0].Names[0] != ref("r.io/large:v1") || freed != 100 {
		t.Errorf("going = %v, freed %d, want the large one alone", going, freed)
	}
}

// TestChooseKeepsItsWord checks the invariants on random images that share parts.
func TestChooseKeepsItsWord(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		weights, images := randomImages(rng)
		want, priority := rng.Int64N(3000), rng.Int32N(7)-3
		going, freed := Choose(want, priority, images, weights)
		if len(going) == 0 {
			if want > 0 && freed >= want {
				t.Fatalf("seed %d: nothing goes although %d of %d could be freed", seed, freed, want)
			}
			continue
		}
		if got := total(weights) - total(without(weights, going)); got != freed || freed < want {
			t.Fatalf("seed %d: frees %d, says %d, want %d", seed, got, freed, want)
		}
		for i, img := range going {
			if img.Rank == Wished && img.Priority >= priority {
				t.Fatalf("seed %d: %v goes for priority %d", seed, img, priority)
			}
			fewer := slices.Delete(slices.Clone(going), i, i+1)
			if total(weights)-total(without(weights, fewer)) >= want {
				t.Fatalf("seed %d: %v goes needlessly", seed, img)
			}
		}
	}
}

func randomImages(rng *rand.Rand) (Weights, []Image) {
	weights, images := Weights{}, []Image(nil)
	for i := range 2 + rng.IntN(8) {
		img := spare(fmt.Sprintf("r.io/img%d:v1", i), Rank(rng.IntN(3)), rng.Int32N(7)-3, rng.IntN(10))
		if rng.IntN(3) == 0 {
			img.Names = append(img.Names, ref(fmt.Sprintf("r.io/img%d:v2", i)))
		}
		seen := map[int]bool{}
		for range 1 + rng.IntN(4) {
			if part := rng.IntN(12); !seen[part] {
				seen[part] = true
				for _, name := range img.Names {
					weights[name] = append(weights[name], runtime.Part{ID: strconv.Itoa(part), Size: int64(part+1) * 50})
				}
			}
		}
		if rng.IntN(5) > 0 { // else somebody else's
			images = append(images, img)
		}
	}
	return weights, images
}

func without(w Weights, going []Image) Weights {
	left := maps.Clone(w)
	for _, img := range going {
		for _, name := range img.Names {
			delete(left, name)
		}
	}
	return left
}

func total(w Weights) (n int64) {
	seen := map[string]bool{}
	for _, parts := range w {
		for _, p := range parts {
			if !seen[p.ID] {
				seen[p.ID] = true
				n += p.Size
			}
		}
	}
	return n
}

func TestRoom(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	r := Room{Capacity: 6400 * mib, Available: 1000 * mib, Reserve: 500 * mib, Claimed: 100 * mib}
	if r.Slack() != 64*mib || r.Free() != 336*mib || r.Touched() || r.Short() != 0 {
		t.Errorf("slack %d, free %d, touched %v, short %d", r.Slack(), r.Free(), r.Touched(), r.Short())
	}
	r.Available = 531 * mib
	if !r.Touched() || r.Short() != 0 || r.Free() > 0 {
		t.Errorf("half of the slack is used up: %+v", r)
	}
	if r.Available = 499 * mib; r.Short() != mib {
		t.Errorf("short by %d, want 1 MiB", r.Short())
	}
}
