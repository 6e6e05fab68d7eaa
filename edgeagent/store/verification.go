package store

import (
	"time"

	bolt "go.etcd.io/bbolt"
)

const keyVerification = "verification"

// Verification is how far the images that a node held when it was booted have been read
// through. It is of one boot.
type Verification struct {
	// BootID of the node.
	BootID string `json:"bootID"`
	// Clean says that the agent was told to stop, and did: the file system was most likely
	// unmounted after that.
	Clean bool `json:"clean,omitempty"`
	// Due says that the boot before was not ended like that, and that there are images left
	// to read.
	Due bool `json:"due,omitempty"`
	// Through is the image that was read last, nil for none: newer ones were read before.
	Through *Verified `json:"through,omitempty"`
	// Damaged are images that are not as they should be and could not be given up yet.
	Damaged []Damaged `json:"damaged,omitempty"`
}

// Verified is an image by its place in the order of reading.
type Verified struct {
	Since  time.Time `json:"since"` // when the runtime was given it
	Digest string    `json:"digest"`
}

// Damaged is an image with damage, as runtime.Damage has it.
type Damaged struct {
	Digest   string   `json:"digest"`
	Blobs    []string `json:"blobs,omitempty"`
	Snapshot string   `json:"snapshot,omitempty"`
	What     string   `json:"what"`
}

// Verification gives what was stored last, and whether anything was: nothing while the file
// cannot be used.
func (s *Store) Verification() (v Verification, found bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		found, err = get(tx, bucketMeta, keyVerification, &v)
		return err
	}, func(*known) {})
	return v, found, err
}

// PutVerification stores it.
func (s *Store) PutVerification(v Verification) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.update(func(w *writer) error { return w.put(bucketMeta, keyVerification, v) })
}
