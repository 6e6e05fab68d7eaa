package store

import (
	"errors"
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
	// Lost is since when the image is away that was cached at Digest, nil while it is there.
	Lost *time.Time `json:"lost,omitempty"`
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

// Change is what one transaction is to store. What is zero stays as it is.
type Change struct {
	// Desired is the wish, nil for the one that is stored.
	Desired *Desired
	// Save are entries of the ledger, Drop the names of those that go.
	Save []Entry
	Drop []string
	// Notes are appended to the journal. Their Seq is given by the store.
	Notes []Record
	// Boot is the node's present boot.
	Boot string
}

// Desired gives the wish, and whether one was ever stored.
func (s *Store) Desired() (d Desired, found bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		found, err = get(tx, bucketDesired, keyObject, &d)
		return err
	}, func(k *known) { d, found = k.desired, k.found })
	return d, found, err
}

// Ledger gives all entries by name.
func (s *Store) Ledger() (map[string]Entry, error) {
	entries := map[string]Entry{}
	err := s.view(func(tx *bolt.Tx) error { return readLedger(tx, entries) },
		func(k *known) { entries = k.ledger })
	return entries, err
}

func readLedger(tx *bolt.Tx, into map[string]Entry) error {
	return each(tx, bucketLedger, func(key string, b []byte) error {
		var e Entry
		if err := decode(bucketLedger, key, b, &e); err != nil {
			return err
		}
		into[key] = e
		return nil
	})
}

// Boot gives the boot of the node that was stored last, "" when none was.
func (s *Store) Boot() (id string, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		_, err := get(tx, bucketMeta, keyBoot, &id)
		return err
	}, func(*known) {})
	return id, err
}

// Write stores a change in one transaction, if it changes anything. A wish goes into its
// snapshots too, also while the store itself cannot be used.
func (s *Store) Write(c Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.update(func(w *writer) error { return w.change(c) })
	if c.Desired != nil {
		err = errors.Join(err, s.wish.keep(*c.Desired))
	}
	return err
}

func (w *writer) change(c Change) error {
	if c.Desired != nil {
		if err := w.put(bucketDesired, keyObject, *c.Desired); err != nil {
			return err
		}
	}
	for _, e := range c.Save {
		if err := w.put(bucketLedger, e.Name, e); err != nil {
			return err
		}
	}
	for _, name := range c.Drop {
		if err := w.drop(bucketLedger, name); err != nil {
			return err
		}
	}
	if c.Boot != "" {
		if err := w.put(bucketMeta, keyBoot, c.Boot); err != nil {
			return err
		}
	}
	return w.note(c.Notes)
}
