package store

import (
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
	"k8s.io/klog/v2"
)

// retryEvery is how often a file that could not be used is tried again.
const retryEvery = 5 * time.Minute

// known is what a store works from while its file cannot be used.
type known struct {
	desired Desired
	found   bool
	ledger  map[string]Entry
}

// degrade has the store work from memory; the caller holds s.mu. What the file has is read
// if it was found intact and only may not be written; else the snapshots give the wish.
func (s *Store) degrade(why error) {
	s.db, s.why = nil, fmt.Errorf("the store cannot be used, working from memory: %w", why)
	s.next = time.Now().Add(retryEvery)
	s.known = known{ledger: map[string]Entry{}}
	if _, ok := errors.AsType[intactError](why); ok {
		s.known = s.readable()
	}
	if !s.known.found {
		s.known.desired, s.known.found = s.wish.recall()
	}
}

// readable gives what can be read of the file, as far as this release understands it.
func (s *Store) readable() known {
	k := known{ledger: map[string]Entry{}}
	db, err := openFile(s.path, true)
	if err != nil {
		return k
	}
	err = db.View(func(tx *bolt.Tx) error {
		if id := (Identity{}); !has(tx, bucketMeta, keyIdentity, &id) || id.Node != s.node {
			return nil
		}
		k.found = has(tx, bucketDesired, keyObject, &k.desired)
		return readLedger(tx, k.ledger)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		klog.FromContext(s.ctx).Info("Not all of the store can be read", "err", err)
	}
	return k
}

func has(tx *bolt.Tx, bucket, key string, v any) bool {
	found, err := get(tx, bucket, key, v)
	return found && err == nil
}

// abandon closes a file whose state is not known any more, to be looked over at once; the
// caller holds s.mu.
func (s *Store) abandon(why error) {
	if err := s.db.Close(); err != nil {
		klog.FromContext(s.ctx).Info("Closing a store that failed", "err", err)
	}
	s.degrade(why)
	s.next = time.Now()
}

// Mend says whether the store can be used; nil when it can. When it cannot, its file is
// tried again in the background from time to time. reopened is true once after that went
// well: what was written before may be missing, and all that is to be remembered has to be
// written again.
func (s *Store) Mend() (reopened bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil && !s.next.IsZero() && !time.Now().Before(s.next) {
		s.next = time.Time{}
		s.trying.Go(s.retry)
	}
	reopened, s.back = s.back, false
	if s.db == nil {
		return false, s.why
	}
	return reopened, nil
}

func (s *Store) retry() {
	db, origin, err := s.attempt(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.why, s.next = fmt.Errorf("the store cannot be used, working from memory: %w", err), time.Now().Add(retryEvery)
		return
	}
	klog.FromContext(s.ctx).Info("The store can be used again", "new", origin.New, "damage", origin.Damage)
	s.db, s.why, s.back, s.known = db, nil, true, known{}
}
