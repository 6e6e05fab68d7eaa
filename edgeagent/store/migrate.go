package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"
)

// migrations bring a file from the schema that is the index to the next.
var migrations = [schema]func(*writer) error{
	1: func(w *writer) error { // the journal
		_, err := w.tx.CreateBucketIfNotExists([]byte(bucketJournal))
		return err
	},
}

// migrate brings a file up to the present schema, in one transaction. The file of before
// stays beside it, for who has to go back to the release that wrote it.
func migrate(db *bolt.DB, path string, id Identity, written *counters) error {
	if id.Schema < 1 {
		return fmt.Errorf("store %s has schema %d, the first one is 1: %w", path, id.Schema, errDamaged)
	}
	if err := copyFile(path, fmt.Sprintf("%s.schema-%d", path, id.Schema)); err != nil {
		return fmt.Errorf("keeping store %s before its migration: %w", path, err)
	}
	return commit(db, written, func(w *writer) error {
		for from := id.Schema; from < schema; from++ {
			if err := migrations[from](w); err != nil {
				return fmt.Errorf("migrating store %s from schema %d: %w", path, from, err)
			}
		}
		id.Schema = schema
		return w.put(bucketMeta, keyIdentity, id)
	})
}

// copyFile copies a file such that the copy is found whole or not at all.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	b, err := io.ReadAll(io.LimitReader(src, maxBytes+1))
	if err != nil {
		return err
	}
	if len(b) > maxBytes {
		return errors.New("the file is too large")
	}
	return replace(to, b)
}
