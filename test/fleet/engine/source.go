package engine

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/fetch"
)

const (
	// MedianSize of images in bytes; nine of ten lie between 0.44 and 2.3 times that.
	MedianSize = 100_000_000
	// spread is the standard deviation of the logarithm of sizes.
	spread = 0.5
)

// Source is the registry as engines see it.
type Source struct {
	mu    sync.Mutex
	sizes map[digest.Digest]int64 // guarded by mu
	gone  bool                    // guarded by mu
}

// NewSource makes a registry without images.
func NewSource() *Source { return &Source{sizes: map[digest.Digest]int64{}} }

// Put adds an image of a random size, as large as any other of that seed.
func (s *Source) Put(d digest.Digest, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[d] = int64(MedianSize * math.Exp(spread*rng.NormFloat64()))
}

// SetGone takes the registry away, or brings it back.
func (s *Source) SetGone(gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = gone
}

// size gives the bytes of an image, or why it cannot be had.
func (s *Source) size(d digest.Digest) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, ok := s.sizes[d]
	switch {
	case s.gone:
		return 0, &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("connection refused")}
	case !ok:
		return 0, &fetch.Error{Reason: fetch.NotFound, Err: errors.New("manifest unknown")}
	}
	return size, nil
}
