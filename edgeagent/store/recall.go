package store

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Recall reads what a store file holds that nobody has open, and changes nothing. Check it
// first (CheckFile, in a child process): reading a damaged one may end the process.
func Recall(path string) (node string, d Desired, ledger map[string]Entry, err error) {
	db, err := openFile(path, true)
	if err != nil {
		return "", d, nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	id, err := identity(db, path)
	if err != nil {
		return "", d, nil, err
	}
	if id.Schema > schema {
		return "", d, nil, fmt.Errorf("reading store %s: %w", path, ErrNewer)
	}
	ledger = map[string]Entry{}
	err = db.View(func(tx *bolt.Tx) error {
		_, err := get(tx, bucketDesired, keyObject, &d)
		return errors.Join(err, readLedger(tx, ledger))
	})
	return id.Node, d, ledger, err
}
