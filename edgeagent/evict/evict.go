package evict

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
)

// Rank is what kind of image could go. Lower ranks go first.
type Rank int

// Ranks.
const (
	Superseded Rank = iota // an earlier digest that need not be kept
	Previous               // an earlier digest that is kept besides the wished one, which is there
	Wished                 // what the node is to hold
)

// Image is one that could be given up.
type Image struct {
	// Names are all that have to go with it.
	Names []imageref.Reference
	Rank  Rank
	// Priority as wished; higher goes later.
	Priority int32
	// Used is when a container was last seen to use it; zero is never.
	Used time.Time
}

// Weights are the parts that the names of a runtime stand for. Parts are shared: what a name
// has that another one needs too is not freed with it.
type Weights map[imageref.Reference][]runtime.Part

// Choose gives what to give up for at least want bytes in favour of an image of a priority,
// and how many bytes are freed by that. Where that much cannot be freed nothing goes, and
// the bytes are what could be.
func Choose(want int64, priority int32, spare []Image, w Weights) (going []Image, freed int64) {
	h := hold(w)
	for _, img := range inOrder(spare) {
		if freed >= want {
			break
		}
		if img.Rank < Wished || img.Priority < priority {
			going = append(going, img)
			freed += h.drop(img)
		}
	}
	if freed < want {
		return nil, freed
	}
	for i, img := range slices.Backward(going) {
		back := h.keep(img)
		if freed-back < want {
			h.drop(img)
			continue
		}
		freed -= back
		going = slices.Delete(going, i, i+1)
	}
	return going, freed
}

func inOrder(spare []Image) []Image {
	return slices.SortedFunc(slices.Values(spare), func(a, b Image) int {
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Priority, b.Priority), a.Used.Compare(b.Used),
			slices.CompareFunc(a.Names, b.Names, func(x, y imageref.Reference) int { return strings.Compare(x.String(), y.String()) }))
	})
}

// holders counts by how many names each part is held.
type holders struct {
	weights Weights
	count   map[string]int
}

func hold(w Weights) holders {
	h := holders{w, map[string]int{}}
	for _, parts := range w {
		for _, p := range parts {
			h.count[p.ID]++
		}
	}
	return h
}

// drop takes an image's names away and gives the bytes that nobody holds any more.
func (h holders) drop(img Image) (freed int64) {
	for _, name := range img.Names {
		for _, p := range h.weights[name] {
			if h.count[p.ID]--; h.count[p.ID] == 0 {
				freed += p.Size
			}
		}
	}
	return freed
}

// keep undoes drop and gives the bytes that somebody holds again.
func (h holders) keep(img Image) (back int64) {
	for _, name := range img.Names {
		for _, p := range h.weights[name] {
			if h.count[p.ID]++; h.count[p.ID] == 1 {
				back += p.Size
			}
		}
	}
	return back
}
