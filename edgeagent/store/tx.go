package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Stats counts what was written since the start of the process.
type Stats struct {
	// Commits are transactions that reached the disk, snapshots of the wish included.
	Commits uint64
	// Bytes of pages and snapshots handed to the file system; what the device writes is more.
	Bytes uint64
}

type counters struct{ commits, bytes atomic.Uint64 }

func (c *counters) count(bytes int64) {
	c.commits.Add(1)
	c.bytes.Add(uint64(max(bytes, 0)))
}

// Stats gives what was written since the start of the process.
func (s *Store) Stats() Stats {
	return Stats{Commits: s.written.commits.Load(), Bytes: s.written.bytes.Load()}
}

// view reads: from the file, or what is known while that cannot be used.
func (s *Store) view(read func(*bolt.Tx) error, degraded func(*known)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		degraded(&s.known)
		return nil
	}
	return s.db.View(read)
}

// update runs a write transaction; the caller holds s.mu. On a full disk the reserve is
// given up for it. When it is not known what of it reached the disk, the file is not used
// any more until it was looked over: see Mend.
func (s *Store) update(change func(*writer) error) error {
	if s.db == nil {
		return s.why
	}
	err := commit(s.db, &s.written, change)
	if isFull(err) && s.reserve.giveUp() {
		err = commit(s.db, &s.written, change)
	}
	switch {
	case err == nil:
		s.reserve.keep()
	case unsure(err):
		s.abandon(err)
	}
	return err
}

// writer is a write transaction that knows whether it wrote anything.
type writer struct {
	tx    *bolt.Tx
	wrote bool
}

// commitError is what went wrong with the disk.
type commitError struct{ err error }

// Error says what.
func (e *commitError) Error() string { return "writing store: " + e.err.Error() }

// Unwrap gives what the system said.
func (e *commitError) Unwrap() error { return e.err }

// commit runs a write transaction. It commits only if something was written: bbolt
// flushes the disk twice even for an empty commit.
func commit(db *bolt.DB, written *counters, change func(*writer) error) error {
	tx, err := db.Begin(true)
	if err != nil {
		return &commitError{err}
	}
	w := &writer{tx: tx}
	if err := change(w); err != nil || !w.wrote {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return &commitError{err}
	}
	stats := tx.Stats()
	written.count(stats.GetPageAlloc() + int64(db.Info().PageSize)) // and the meta page
	return nil
}

// isFull says whether a disk had no room for a write.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// unsure says whether it is not known after a failed commit what is on the disk. bbolt
// writes only to pages that nothing uses, until it writes a meta page: a disk that had no
// room for them, and said so at the write, has the state of before. After a flush that failed
// nothing is sure.
func unsure(err error) bool {
	if _, ok := errors.AsType[*commitError](err); !ok || errors.Is(err, bolterrors.ErrMaxSizeReached) {
		return false
	}
	failed, ok := errors.AsType[*os.PathError](err)
	return !ok || failed.Op != "write" && failed.Op != "truncate" || !isFull(err)
}

// put stores a record unless an equal one stands there.
func (w *writer) put(bucket, key string, v any) error {
	b, err := encode(bucket, key, v)
	if err != nil {
		return err
	}
	in := w.tx.Bucket([]byte(bucket))
	if bytes.Equal(in.Get([]byte(key)), b) {
		return nil
	}
	w.wrote = true
	if err := in.Put([]byte(key), b); err != nil {
		return fmt.Errorf("writing record %s/%s: %w", bucket, key, err)
	}
	return nil
}

// drop removes a record if there is one.
func (w *writer) drop(bucket, key string) error {
	in := w.tx.Bucket([]byte(bucket))
	if in.Get([]byte(key)) == nil {
		return nil
	}
	w.wrote = true
	if err := in.Delete([]byte(key)); err != nil {
		return fmt.Errorf("dropping record %s/%s: %w", bucket, key, err)
	}
	return nil
}

// get reads a record and says whether there is one.
func get(tx *bolt.Tx, bucket, key string, v any) (bool, error) {
	in := tx.Bucket([]byte(bucket))
	if in == nil {
		return false, fmt.Errorf("bucket %s is missing: %w", bucket, errDamaged)
	}
	b := in.Get([]byte(key))
	if b == nil {
		return false, nil
	}
	return true, decode(bucket, key, b, v)
}

// each visits the records of a bucket. The bytes are only valid during the visit.
func each(tx *bolt.Tx, bucket string, visit func(key string, b []byte) error) error {
	in := tx.Bucket([]byte(bucket))
	if in == nil {
		return fmt.Errorf("bucket %s is missing: %w", bucket, errDamaged)
	}
	return in.ForEach(func(k, v []byte) error { return visit(string(k), v) })
}
