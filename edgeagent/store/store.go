package store

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"edgecache.dev/api/v1alpha1"
)

// Desired is the wish as the agent last heard it.
type Desired struct {
	// UID and Generation of the NodeImageCache that spec was read from.
	UID        string `json:"uid,omitempty"`
	Generation int64  `json:"generation,omitempty"`
	// NodeUID is the Node that the object is for, to which its credentials are sealed.
	NodeUID string `json:"nodeUID,omitempty"`
	// Spec as read.
	Spec v1alpha1.NodeImageCacheSpec `json:"spec"`
	// Held are images of an earlier object that Spec does not have, kept because the
	// controller has not worked out the wish for the present object yet.
	Held []v1alpha1.NodeImage `json:"held,omitempty"`
	// HeldCredentials are those of the earlier object, sealed for the Node with HeldNodeUID.
	HeldCredentials []v1alpha1.SealedCredential `json:"heldCredentials,omitempty"`
	HeldNodeUID     string                      `json:"heldNodeUID,omitempty"`
	// Known is false while the object is missing or its wish not worked out: then
	// nothing is given up.
	Known bool `json:"known"`
	// Sandbox is the sandbox image that was known last, nil while none was. It outlasts
	// the object that it was reported in.
	Sandbox *Sandbox `json:"sandbox,omitempty"`
}

// Sandbox is the image that a container runtime makes pod sandboxes of.
type Sandbox struct {
	Runtime string `json:"runtime"` // its name
	Image   string `json:"image"`   // canonical reference
}

// Entry is what the agent knows of one name.
type Entry struct {
	// Name is the canonical reference.
	Name string `json:"name"`
	// Digest that the name was last cached at, "" before the first success.
	Digest string `json:"digest,omitempty"`
	// Previous are earlier digests that are kept, newest first.
	Previous []string `json:"previous,omitempty"`
	// Failure is the last failure, nil when the last attempt succeeded.
	Failure *Failure `json:"failure,omitempty"`
	// RemovedSince is the since of the removal that was carried out last, so that it is
	// not carried out again on an image that came back for another reason.
	RemovedSince *time.Time `json:"removedSince,omitempty"`
	// Resolved is what the registry gave for the tag, nil where that was never asked for.
	Resolved *Resolved `json:"resolved,omitempty"`
	// Used is when a container was last seen to use the image, zero for never. It is written
	// with other changes only and may be old.
	Used time.Time `json:"used,omitzero"`
}

// Resolved is a registry's last answer to what a tag stands for.
type Resolved struct {
	// Digest that it gave, "" when it is outdated.
	Digest string `json:"digest,omitempty"`
	// RefreshToken that was answered, or that was met together with the first digest.
	RefreshToken string `json:"refreshToken,omitempty"`
	// Wished is the digest that Digest was compared with, "" while none was wished.
	Wished string `json:"wished,omitempty"`
	// Newer says that the registry was asked while Wished was wished, and gave another.
	Newer bool `json:"newer,omitempty"`
}

// Failure is a failing image.
type Failure struct {
	Digest   string    `json:"digest"` // that was wished, "" while that is what is to be found out
	Reason   string    `json:"reason"`
	Message  string    `json:"message"`
	Attempts int32     `json:"attempts"`
	Since    time.Time `json:"since"`
}

// Desired gives the wish, and whether one was ever stored.
func (s *Store) Desired() (d Desired, found bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		found, err = get(tx, bucketDesired, keyObject, &d)
		return err
	})
	return d, found, err
}

// PutDesired stores the wish.
func (s *Store) PutDesired(d Desired) error {
	return s.update(func(w *writer) error { return w.put(bucketDesired, keyObject, d) })
}

// Ledger gives all entries by name.
func (s *Store) Ledger() (map[string]Entry, error) {
	entries := map[string]Entry{}
	err := s.db.View(func(tx *bolt.Tx) error {
		return each(tx, bucketLedger, func(key string, b []byte) error {
			var e Entry
			if err := decode(bucketLedger, key, b, &e); err != nil {
				return err
			}
			entries[key] = e
			return nil
		})
	})
	return entries, err
}

// Save stores entries and drops names, in one transaction, if that changes anything.
func (s *Store) Save(entries []Entry, drop []string) error {
	return s.update(func(w *writer) error {
		for _, e := range entries {
			if err := w.put(bucketLedger, e.Name, e); err != nil {
				return err
			}
		}
		for _, name := range drop {
			if err := w.drop(bucketLedger, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// writer is a write transaction that knows whether it wrote anything.
type writer struct {
	tx    *bolt.Tx
	wrote bool
}

// update runs a write transaction. It commits only if something was written: bbolt
// flushes the disk twice even for an empty commit.
func (s *Store) update(change func(*writer) error) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("writing store: %w", err)
	}
	w := &writer{tx: tx}
	if err := change(w); err != nil || !w.wrote {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("writing store: %w", err)
	}
	return nil
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
