package store

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"

	"edgecache.dev/api/v1alpha1"
)

// Dump is all that a store has, but for what is sealed.
type Dump struct {
	Identity Identity `json:"identity"`
	// Boot is the node's boot that was stored last.
	Boot string `json:"boot,omitempty"`
	// Wish is nil when none was ever stored.
	Wish *DumpedWish `json:"wish,omitempty"`
	// Ledger by name.
	Ledger  []Entry `json:"ledger,omitempty"`
	Journal Journal `json:"journal"`
}

// DumpedWish is a wish without its credentials.
type DumpedWish struct {
	Desired
	// Credentials are the ids of those that are sealed in the wish, and held from the one
	// before.
	Credentials []string `json:"credentials,omitempty"`
}

// dumpTries is how often a file is copied that changes meanwhile.
const dumpTries = 5

// ReadDump reads a store file. One that another process has open, the agent's own, is copied
// first: the copy is looked over, and made again should the file have changed meanwhile.
// Damage can end the process; see CheckFile.
func ReadDump(path string) (*Dump, error) {
	d, err := readDump(path)
	if !errors.Is(err, ErrLocked) {
		return d, err
	}
	dir, err := os.MkdirTemp("", "edgecache-dump-")
	if err != nil {
		return nil, fmt.Errorf("another process has the store open, and there is no room for a copy (set TMPDIR): %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for range dumpTries {
		at := filepath.Join(dir, FileName)
		if err = copyFile(path, at); err != nil {
			return nil, fmt.Errorf("copying store %s, which another process has open: %w", path, err)
		}
		if err = CheckFile(at); err == nil {
			return readDump(at)
		}
	}
	return nil, err
}

func readDump(path string) (*Dump, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("reading store: %w", err)
	}
	db, err := openFile(path, true)
	if err != nil {
		return nil, err
	}
	d := &Dump{}
	d.Identity, err = identity(db, path)
	if err == nil && d.Identity.Schema > schema {
		err = newer(path, d.Identity)
	}
	if err == nil {
		err = db.View(d.read)
	}
	return d, errors.Join(err, db.Close())
}

func (d *Dump) read(tx *bolt.Tx) error {
	var wish Desired
	found, err := get(tx, bucketDesired, keyObject, &wish)
	if err != nil {
		return err
	}
	if found {
		d.Wish = shown(wish)
	}
	ledger := map[string]Entry{}
	if err := readLedger(tx, ledger); err != nil {
		return err
	}
	for _, e := range ledger {
		d.Ledger = append(d.Ledger, e)
	}
	slices.SortFunc(d.Ledger, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	if d.Identity.Schema < schema {
		return nil // before there was more
	}
	if _, err := get(tx, bucketMeta, keyBoot, &d.Boot); err != nil {
		return err
	}
	d.Journal, err = readJournal(tx)
	return err
}

// shown leaves out what is sealed.
func shown(wish Desired) *DumpedWish {
	w := &DumpedWish{Desired: wish}
	for _, list := range [][]v1alpha1.SealedCredential{wish.Spec.Credentials, wish.HeldCredentials} {
		for i := range list {
			w.Credentials = append(w.Credentials, list[i].ID)
		}
	}
	w.Spec.Credentials, w.HeldCredentials = nil, nil
	return w
}
