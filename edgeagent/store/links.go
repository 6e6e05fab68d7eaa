package store

import (
	"fmt"

	bolt "go.etcd.io/bbolt"

	"edgecache.dev/offline/link"
)

// bucketLinks holds the history of links by peer. Files of earlier releases lack it: it is
// made with the first write, and nothing depends on it.
const bucketLinks = "links"

// linkHistory is the record of one peer.
type linkHistory struct {
	Changes []link.Change `json:"changes"`
}

// Links gives the history of all links by peer, none while the file cannot be used. Records
// that cannot be trusted are left out and said: their peers are found out anew.
func (s *Store) Links() (map[string][]link.Change, error) {
	links, damage := map[string][]link.Change{}, error(nil)
	err := s.view(func(tx *bolt.Tx) error {
		if tx.Bucket([]byte(bucketLinks)) == nil {
			return nil
		}
		return each(tx, bucketLinks, func(key string, b []byte) error {
			var h linkHistory
			if err := decode(bucketLinks, key, b, &h); err != nil {
				damage = err
				return nil //nolint:nilerr // the others are read all the same
			}
			links[key] = h.Changes
			return nil
		})
	}, func(*known) {})
	if err == nil {
		err = damage
	}
	return links, err
}

// SaveLinks stores the history of peers and drops others, in one transaction, if that
// changes anything.
func (s *Store) SaveLinks(save map[string][]link.Change, drop []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.update(func(w *writer) error {
		if _, err := w.tx.CreateBucketIfNotExists([]byte(bucketLinks)); err != nil {
			return fmt.Errorf("making bucket %s: %w", bucketLinks, err)
		}
		for peer, changes := range save {
			if err := w.put(bucketLinks, peer, linkHistory{changes}); err != nil {
				return err
			}
		}
		for _, peer := range drop {
			if err := w.drop(bucketLinks, peer); err != nil {
				return err
			}
		}
		return nil
	})
}
