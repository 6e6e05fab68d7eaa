package store

import (
	"strings"

	bolt "go.etcd.io/bbolt"

	"edgecache.dev/api/v1alpha1"
)

// Manifest is an ImageCache out of a file, as it was last read without a mistake.
type Manifest struct {
	// File is the name of the file within its directory.
	File  string              `json:"file"`
	Cache v1alpha1.ImageCache `json:"cache"`
}

// Key of the ImageCache: "namespace/name".
func (m *Manifest) Key() string { return m.Cache.Namespace + "/" + m.Cache.Name }

// keyManifest begins the keys of manifests. They stand beside the wish, which follows from
// them.
const keyManifest = "manifest/"

// Manifests gives all manifests that were stored, none while the store cannot be used.
func (s *Store) Manifests() (all []Manifest, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		return each(tx, bucketDesired, func(key string, b []byte) error {
			if !strings.HasPrefix(key, keyManifest) {
				return nil
			}
			var m Manifest
			if err := decode(bucketDesired, key, b, &m); err != nil {
				return err
			}
			all = append(all, m)
			return nil
		})
	}, func(*known) {})
	return all, err
}

// SaveManifests stores manifests and drops those with the keys, in one transaction, if that
// changes anything.
func (s *Store) SaveManifests(save []Manifest, drop []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.update(func(w *writer) error {
		for i := range save {
			if err := w.put(bucketDesired, keyManifest+save[i].Key(), save[i]); err != nil {
				return err
			}
		}
		for _, key := range drop {
			if err := w.drop(bucketDesired, keyManifest+key); err != nil {
				return err
			}
		}
		return nil
	})
}
