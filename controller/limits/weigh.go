package limits

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/wish"
)

// Claim is what an ImageCache has of its namespace's bytes.
type Claim struct {
	Owner wish.Owner
	// Created is when the ImageCache was made: older ones come first.
	Created time.Time
	// Named are the digests that its images stand for, as far as that is known.
	Named map[digest.Digest]bool
	// Held are the digests that nodes are asked to hold on its behalf. They count while the
	// cache is refused, as it keeps them.
	Held map[digest.Digest]bool
}

// excess is what a claim that does not fit would lead to, in bytes.
type excess struct {
	have  int64 // counted for those that come first
	would int64 // with the claim
}

// overweight gives the claims that do not fit into most bytes, in the order of their age,
// then of their names. A claim that does not fit does not keep a smaller one out that comes
// later; one that adds nothing always fits.
func overweight(claims []Claim, most int64, size func(digest.Digest) int64) map[wish.Owner]excess {
	slices.SortFunc(claims, func(a, b Claim) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Owner, b.Owner))
	})
	refused := map[wish.Owner]excess{}
	s := scale{size: size, on: map[digest.Digest]bool{}}
	for _, c := range claims {
		counts := c.Named
		if would := plus(s.total, s.more(c.Named)); would > s.total && would > most {
			refused[c.Owner] = excess{have: s.total, would: would}
			counts = c.Held
		}
		s.put(counts)
	}
	return refused
}

// scale weighs digests, each once.
type scale struct {
	size  func(digest.Digest) int64
	on    map[digest.Digest]bool
	total int64
}

// more gives what digests would add.
func (s *scale) more(digests map[digest.Digest]bool) int64 {
	var n int64
	for d := range digests {
		if !s.on[d] {
			n = plus(n, s.size(d))
		}
	}
	return n
}

func (s *scale) put(digests map[digest.Digest]bool) {
	s.total = plus(s.total, s.more(digests))
	for d := range digests {
		s.on[d] = true
	}
}

// plus adds sizes. They come from registries: a sum that overflows is the largest there is.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
