package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// FileName of the store within the state directory.
	FileName = "state.db"
	// schema is the version of the buckets and records below.
	schema = 1
	// lockWait bounds how long another process may hold the file.
	lockWait = 2 * time.Second
	// maxBytes bounds the file: a node's wish is below 1 MiB.
	maxBytes = 64 << 20
	// keepDamaged is how many damaged files are kept for whoever looks into them.
	keepDamaged = 2
)

// Buckets.
const (
	bucketMeta    = "meta"
	bucketDesired = "desired"
	bucketLedger  = "ledger"
)

var buckets = []string{bucketMeta, bucketDesired, bucketLedger}

const (
	keyIdentity = "identity"
	keyObject   = "object"
)

// identity says whose file this is.
type identity struct {
	Schema  int       `json:"schema"`
	Node    string    `json:"node"`
	Created time.Time `json:"created"`
}

// ErrLocked is returned by Open when another process has the file open.
var ErrLocked = errors.New("another process has the store open: is a second agent running with the same state directory?")

// ErrNewer is returned by Open when the file was written by a newer release.
var ErrNewer = errors.New("the store was written by a newer release: install that release again, or move the file away to start with an empty one")

// Store is an open store.
type Store struct {
	db   *bolt.DB
	path string
}

// Origin says where the memory in an opened store comes from.
type Origin struct {
	// New is true when the store was empty or made anew: nothing is remembered.
	New bool
	// Damage says what was wrong with the file that was moved aside, nil when none was.
	Damage error
	// Aside is where the damaged file is.
	Aside string
}

// Validator looks over a store file before it is opened: nil when it is intact,
// errDamaged (see CheckFile and InChild) when it is not.
type Validator func(ctx context.Context, path string) error

// Open opens the store of a node in a directory, which it makes if need be (mode 0700).
// A file that the validator finds damaged, or of another node, is moved aside and a new
// one made.
func Open(ctx context.Context, dir, node string, validate Validator) (*Store, Origin, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, Origin{}, fmt.Errorf("making state directory: %w", err)
	}
	path := filepath.Join(dir, FileName)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		s, err := create(path, node)
		return s, Origin{New: true}, err
	}
	s, err := load(ctx, path, node, validate)
	if !errors.Is(err, errDamaged) {
		return s, Origin{}, err
	}
	aside, moveErr := quarantine(path)
	if moveErr != nil {
		return nil, Origin{}, errors.Join(err, moveErr)
	}
	s, createErr := create(path, node)
	return s, Origin{New: true, Damage: err, Aside: aside}, createErr
}

func load(ctx context.Context, path, node string, validate Validator) (*Store, error) {
	if err := validate(ctx, path); err != nil {
		return nil, err
	}
	s, err := openStore(path)
	if err != nil {
		return nil, err
	}
	if err := s.belongs(node); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func openStore(path string) (*Store, error) {
	db, err := openFile(path, false)
	if err != nil {
		return nil, err
	}
	return &Store{db: db, path: path}, nil
}

// openFile opens a file with bbolt, which panics on some damaged ones. Unless it is to be
// read only, a file that is missing or empty becomes an empty database.
func openFile(path string, readOnly bool) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("opening store %s: %v: %w", path, r, errDamaged)
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout: lockWait, FreelistType: bolt.FreelistMapType, MaxSize: maxBytes, NoStatistics: true,
		ReadOnly: readOnly, PreLoadFreelist: true,
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("opening store %s: %w", path, ErrLocked)
	case refused(err):
		return nil, fmt.Errorf("opening store %s: %w", path, err)
	}
	return nil, fmt.Errorf("opening store %s: %w: %w", path, err, errDamaged)
}

// refused says whether the system would not open a file, which says nothing of what is in
// it: no permission, no memory, a file system that is read only. A disk that cannot read it
// (EIO) has lost it.
func refused(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && errno != syscall.EIO
}

// create makes a store under a temporary name and renames it: a crash in between leaves
// no half-made file under the real name.
func create(path, node string) (*Store, error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing left-over %s: %w", tmp, err)
	}
	db, err := openFile(tmp, false)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, path: path}
	if err := errors.Join(s.initialise(node), db.Close()); err != nil {
		return nil, fmt.Errorf("making store %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("making store %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return openStore(path)
}

func (s *Store) initialise(node string) error {
	return s.update(func(w *writer) error {
		for _, b := range buckets {
			if _, err := w.tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return fmt.Errorf("making bucket %s: %w", b, err)
			}
		}
		return w.put(bucketMeta, keyIdentity, identity{Schema: schema, Node: node, Created: time.Now().UTC().Truncate(time.Second)})
	})
}

// belongs says whether the file is this node's and of a schema that is known.
func (s *Store) belongs(node string) error {
	id, err := s.identity()
	switch {
	case err != nil:
		return err
	case id.Schema > schema:
		return fmt.Errorf("store %s has schema %d, this release knows %d: %w", s.path, id.Schema, schema, ErrNewer)
	case id.Node != node:
		return fmt.Errorf("store %s belongs to node %q, this is %q: %w", s.path, id.Node, node, errDamaged)
	}
	return nil
}

func (s *Store) identity() (id identity, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		found, err := get(tx, bucketMeta, keyIdentity, &id)
		if err == nil && !found {
			err = fmt.Errorf("store %s has no identity record: %w", s.path, errDamaged)
		}
		return err
	})
	return id, err
}

// quarantine moves a damaged file aside and keeps only the newest few.
func quarantine(path string) (string, error) {
	aside := fmt.Sprintf("%s.damaged-%s", path, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("moving damaged store aside: %w", err)
	}
	old, err := filepath.Glob(path + ".damaged-*")
	if err != nil {
		return aside, fmt.Errorf("finding old damaged stores: %w", err)
	}
	slices.SortFunc(old, strings.Compare)
	for len(old) > keepDamaged {
		if err := os.Remove(old[0]); err != nil {
			return aside, fmt.Errorf("removing an old damaged store: %w", err)
		}
		old = old[1:]
	}
	return aside, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

// Close closes the file. It waits for running transactions.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("closing store: %w", err)
	}
	return nil
}
