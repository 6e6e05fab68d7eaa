package plan

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/evict"
	"edgecache.dev/edgeagent/runtime"
)

// Spare gives the images that could be given up if another one needed their room: those
// that the ledger says were brought, that no container uses or may use, and without which
// pods that start now still start from what was there before. used has when images were seen
// in use, by ID. While the wish or the use is not known there are none.
func Spare(in Input, used map[string]time.Time) []evict.Image {
	if !in.Desired.Known || in.UseUnknown {
		return nil
	}
	s := spares{planner: newPlanner(in), used: used, kept: map[imageref.Reference]bool{}}
	s.want()
	s.protect()
	return append(s.earlierOnes(), s.wishedOnes()...)
}

type spares struct {
	planner
	used map[string]time.Time
	kept map[imageref.Reference]bool // names that stay whatever is needed
}

// protect notes the names that stay: the sandbox image's, wished ones, and earlier digests
// whose successor is not there yet.
func (s *spares) protect() {
	s.kept[s.Sandbox] = true
	for i := range s.wished {
		w := &s.wished[i]
		if w.Digest != "" {
			s.kept[w.Ref.WithDigest(w.Digest)] = true
		}
		if w.Digest == "" || !s.cached(w) {
			for _, d := range s.planner.kept(w) {
				s.kept[w.Ref.WithDigest(d)] = true
			}
		}
	}
}

// earlierOnes are earlier digests of wished tags.
func (s *spares) earlierOnes() (out []evict.Image) {
	for i := range s.wished {
		w := &s.wished[i]
		for _, d := range s.earlier(w) {
			old := w.Ref.WithDigest(d)
			rank := evict.Superseded
			if s.wanted[old] {
				rank = evict.Previous
			}
			if names := []imageref.Reference{old}; !s.kept[old] && s.mayGo(names) {
				out = append(out, evict.Image{Names: names, Rank: rank, Priority: w.Priority, Used: s.lastUsed(old)})
			}
		}
	}
	return out
}

// wishedOnes are wished images that are there. Those of one digest go together.
func (s *spares) wishedOnes() (out []evict.Image) {
	byDigest := map[digest.Digest]int{}
	for i := range s.wished {
		w := &s.wished[i]
		if w.Digest == "" {
			continue
		}
		at, ok := byDigest[w.Digest]
		if !ok {
			at, out = len(out), append(out, evict.Image{Rank: evict.Wished, Priority: w.Priority})
			byDigest[w.Digest] = at
		}
		img := &out[at]
		img.Priority = max(img.Priority, w.Priority)
		for _, name := range runtime.NamesOf(w.Ref, w.Digest) {
			if !slices.Contains(img.Names, name) {
				img.Names = append(img.Names, name)
			}
		}
		if last := s.lastUsed(w.Ref); last.After(img.Used) {
			img.Used = last
		}
	}
	return slices.DeleteFunc(out, func(img evict.Image) bool { return !s.brought(img) || !s.mayGo(img.Names) })
}

// brought says whether the images of one digest are all there and were brought by the agent.
func (s *spares) brought(img evict.Image) bool {
	for i := range s.wished {
		w := &s.wished[i]
		if slices.Contains(img.Names, w.Ref) && (!s.cached(w) || s.Ledger[w.Ref.String()].Digest != w.Digest.String()) {
			return false
		}
	}
	return true
}

// mayGo says whether nothing but the wish stands against removing names.
func (s *spares) mayGo(names []imageref.Reference) bool {
	sandbox, known := s.Inventory[s.Sandbox]
	for _, name := range names {
		h, there := s.Inventory[name]
		switch {
		case !there, s.busy(name), s.Running[name.String()]:
			return false
		case known && h.ID == sandbox.ID, !s.Untags && s.shared(name, names):
			return false
		}
	}
	return true
}

// lastUsed is when a container was last seen to use an image.
func (s *spares) lastUsed(name imageref.Reference) time.Time {
	last := s.used[s.Inventory[name].ID]
	if stored := s.Ledger[name.String()].Used; stored.After(last) {
		last = stored
	}
	return last
}
