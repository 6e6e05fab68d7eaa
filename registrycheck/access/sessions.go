package access

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Limits of the sessions that are kept for use again.
const (
	// maxSessions is above the thousand images that the largest ImageCache may name.
	maxSessions = 2048
	// maxSessionAge makes a change of a registry's way of logging in heal by itself.
	// Tokens that expire earlier are renewed inside the session.
	maxSessionAge = 30 * time.Minute
)

// sessionKey is what makes two sessions the same. It holds the credential and stays
// inside this package.
type sessionKey struct {
	endpoint Endpoint
	auth     authn.AuthConfig
}

// sessions keeps the sessions used last. One key is opened once at a time: the others
// wait for the outcome instead of logging in too.
type sessions struct {
	mu    sync.Mutex // guards all below, and kept.used
	byKey map[sessionKey]*kept
	clock uint64 // counts uses; the session with the lowest count goes first
}

// kept is one session, or the attempt to open it.
type kept struct {
	born time.Time
	used uint64
	// done is closed when session or err is there; both are only read after that.
	done    chan struct{}
	session *Session
	err     error
}

func newSessions() *sessions { return &sessions{byKey: map[sessionKey]*kept{}} }

// get gives the session for key, calling open unless one is there. An error of open
// goes to all who waited, except that of its own caller giving up: then the next of them
// opens.
func (s *sessions) get(ctx context.Context, key sessionKey, open func() (*Session, error)) (*Session, error) {
	for {
		k, mine := s.claim(key)
		if mine {
			k.session, k.err = open()
			if k.err != nil {
				s.remove(key, k)
			}
			close(k.done)
			return k.session, k.err
		}
		select {
		case <-k.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		gaveUp := errors.Is(k.err, context.Canceled) || errors.Is(k.err, context.DeadlineExceeded)
		if !gaveUp || ctx.Err() != nil {
			return k.session, k.err
		}
	}
}

// claim gives what is kept for key, or a new one that the caller has to fill.
func (s *sessions) claim(key sessionKey) (k *kept, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k = s.byKey[key]
	if mine = k == nil || time.Since(k.born) >= maxSessionAge; mine {
		k = &kept{born: time.Now(), done: make(chan struct{})}
		s.byKey[key] = k
	}
	s.clock++
	k.used = s.clock
	if len(s.byKey) > maxSessions {
		s.evict()
	}
	return k, mine
}

// evict drops the session that was not used for longest. It looks at all of them, which
// is nothing beside the log-in that made it necessary. Called with the lock held.
func (s *sessions) evict() {
	var oldest sessionKey
	least := s.clock
	for key, k := range s.byKey {
		if k.used < least {
			oldest, least = key, k.used
		}
	}
	delete(s.byKey, oldest)
}

// has says whether an opened session is kept for key.
func (s *sessions) has(key sessionKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.byKey[key]
	if k == nil || time.Since(k.born) >= maxSessionAge {
		return false
	}
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// drop forgets what is kept for key.
func (s *sessions) drop(key sessionKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, key)
}

// remove forgets k, unless another has taken its place.
func (s *sessions) remove(key sessionKey, k *kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[key] == k {
		delete(s.byKey, key)
	}
}
