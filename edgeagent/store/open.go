package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"k8s.io/klog/v2"

	"edgecache.dev/internal/pause"
)

const (
	// FileName of the store within the state directory.
	FileName = "state.db"
	// schema is the version of the buckets and records below.
	schema = 2
	// lockPatience is how long Open waits for a file that another process has open: the agent
	// of before may be ending.
	lockPatience = time.Minute
	lockPoll     = 5 * time.Second
	// lockWait bounds one try at it.
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
	bucketJournal = "journal" // since schema 2
)

var buckets = []string{bucketMeta, bucketDesired, bucketLedger, bucketJournal}

const (
	keyIdentity = "identity"
	keyObject   = "object"
	keyBoot     = "boot"
	keyJournal  = "journal"
)

// Identity says whose file this is.
type Identity struct {
	Schema  int       `json:"schema"`
	Node    string    `json:"node"`
	Created time.Time `json:"created"`
}

// ErrLocked is returned by Open when another process keeps the file open.
var ErrLocked = errors.New("another process has the store open: is a second agent running with the same state directory?")

// ErrNewer is why a store is degraded whose file was written by a newer release.
var ErrNewer = errors.New("the store was written by a newer release: install that release again, or move the file away to start with a new one")

// Store is an open store.
type Store struct {
	dir, path, node string
	validate        Validator
	written         counters
	ctx             context.Context //nolint:containedctx // of tries to open the file again: they outlive the call that begins them
	stop            context.CancelFunc
	trying          sync.WaitGroup

	mu      sync.Mutex // guards what follows
	db      *bolt.DB   // nil while the file cannot be used
	why     error      // that is so
	next    time.Time  // when to try again; zero while a try runs
	back    bool       // it was opened again, and nobody was told yet
	known   known
	wish    snapshots
	reserve reserve
}

// Origin says where the memory in an opened store comes from.
type Origin struct {
	// New is true when the store was empty or made anew: the ledger is empty.
	New bool
	// Wish is true when a new store has the wish of a snapshot, whose state is not Known.
	Wish bool
	// Damage says what was wrong with the file that was moved aside, nil when none was.
	Damage error
	// Aside is where the damaged file is.
	Aside string
	// Degraded says why the file cannot be used, nil when it can. What can be read is known,
	// and nothing is stored.
	Degraded error
}

// Validator looks over a store file before it is opened: nil when it is intact,
// errDamaged (see CheckFile and InChild) when it is not.
type Validator func(ctx context.Context, path string) error

// Open opens the store of a node in a directory, which it makes if need be (mode 0700).
// A file that the validator finds damaged, or of another node, is moved aside and a new
// one made, with the wish of the newest snapshot. A file of an earlier schema is migrated.
//
// While another process has the file open, it is waited for, up to a minute; then, or when
// the context ends, that is an error. Whatever else keeps the file from being used is none:
// the store works from memory, see Origin.Degraded and Mend.
func Open(ctx context.Context, dir, node string, validate Validator) (*Store, Origin, error) {
	return openWithin(ctx, dir, node, validate, lockPatience)
}

func newStore(ctx context.Context, dir, node string, validate Validator) *Store {
	s := &Store{dir: dir, path: filepath.Join(dir, FileName), node: node, validate: validate, reserve: reserve{path: filepath.Join(dir, reserveName)}}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.wish = openSnapshots(dir, node, &s.written)
	return s
}

func openWithin(ctx context.Context, dir, node string, validate Validator, patience time.Duration) (*Store, Origin, error) {
	s := newStore(ctx, dir, node, validate)
	db, origin, err := s.attempt(ctx)
	for deadline := time.Now().Add(patience); errors.Is(err, ErrLocked) && time.Now().Before(deadline) && pause.For(ctx, lockPoll); {
		klog.FromContext(ctx).Info("Another process has the store open, waiting for it", "file", s.path)
		db, origin, err = s.attempt(ctx)
	}
	if err != nil && (errors.Is(err, ErrLocked) || ctx.Err() != nil) {
		s.stop()
		return nil, Origin{}, err
	}
	s.db = db
	if err != nil {
		s.degrade(err)
		origin.Degraded = s.why
		return s, origin, nil
	}
	s.reserve.keep()
	if err := s.keepWish(); err != nil { // the next wish is written whatever this one did
		klog.FromContext(ctx).Error(err, "Snapshot of the wish not written")
	}
	return s, origin, nil
}

// keepWish writes a snapshot of the wish that the file has, unless there is one: the process
// may have ended between the two. A newer one was heard while the file could not be used: the
// older wish may ask for the removal of what is wished since.
func (s *Store) keepWish() error {
	d, found, err := s.Desired()
	if err != nil || !found {
		return err
	}
	if newer, found := s.wish.recall(); found && newer.UID == d.UID && newer.Generation > d.Generation {
		return s.Write(Change{Desired: &newer})
	}
	return s.wish.keep(d)
}

// attempt opens the file once, after it was looked over.
func (s *Store) attempt(ctx context.Context) (*bolt.DB, Origin, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, Origin{}, fmt.Errorf("making state directory: %w", err)
	}
	if _, err := os.Stat(s.path); errors.Is(err, os.ErrNotExist) {
		return s.anew(nil)
	}
	db, err := s.load(ctx)
	if !errors.Is(err, errDamaged) {
		return db, Origin{}, err
	}
	aside, moveErr := quarantine(s.path)
	if moveErr != nil {
		return nil, Origin{}, errors.Join(err, moveErr)
	}
	db, origin, createErr := s.anew(err)
	origin.Damage, origin.Aside = err, aside
	return db, origin, createErr
}

func (s *Store) load(ctx context.Context) (*bolt.DB, error) {
	if err := s.validate(ctx, s.path); err != nil {
		return nil, err
	}
	db, err := openFile(s.path, false)
	if err != nil {
		return nil, intact(err)
	}
	id, err := s.belongs(db)
	if err == nil && id.Schema < schema {
		err = migrate(db, s.path, id, &s.written)
	}
	if err != nil {
		return nil, errors.Join(intact(err), db.Close())
	}
	return db, nil
}

// intactError is why a file cannot be used that is as it should be.
type intactError struct{ error }

// Unwrap gives what it wraps.
func (e intactError) Unwrap() error { return e.error }

func intact(err error) error {
	if IsDamage(err) || errors.Is(err, ErrLocked) {
		return err
	}
	return intactError{err}
}

// anew makes a store with the wish of the newest snapshot; damage is what was wrong with the
// one before, nil when there was none. On a full disk the reserve is given up for it.
func (s *Store) anew(damage error) (*bolt.DB, Origin, error) {
	wish, found := s.wish.recall()
	if damage == nil && found {
		damage = errors.New("the store was missing, and a snapshot of its wish was not")
	}
	first := func(w *writer) error {
		if err := w.initialise(s.node, damage); err != nil || !found {
			return err
		}
		return w.put(bucketDesired, keyObject, wish)
	}
	db, err := create(s.path, &s.written, first)
	if isFull(err) && s.reserve.giveUp() {
		db, err = create(s.path, &s.written, first)
	}
	return db, Origin{New: true, Wish: found}, err
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
func create(path string, written *counters, first func(*writer) error) (*bolt.DB, error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing left-over %s: %w", tmp, err)
	}
	db, err := openFile(tmp, false)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(commit(db, written, first), db.Close()); err != nil {
		return nil, fmt.Errorf("making store %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("making store %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return openFile(path, false)
}

func (w *writer) initialise(node string, damage error) error {
	for _, b := range buckets {
		if _, err := w.tx.CreateBucketIfNotExists([]byte(b)); err != nil {
			return fmt.Errorf("making bucket %s: %w", b, err)
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	if err := w.put(bucketMeta, keyIdentity, Identity{Schema: schema, Node: node, Created: now}); err != nil {
		return err
	}
	if damage == nil {
		return nil
	}
	return w.note([]Record{{Time: now, Kind: StoreMadeAnew, Message: damage.Error()}})
}

// belongs says whether the file is this node's and of a schema that is known.
func (s *Store) belongs(db *bolt.DB) (Identity, error) {
	id, err := identity(db, s.path)
	switch {
	case err != nil:
		return id, err
	case id.Schema > schema:
		return id, newer(s.path, id)
	case id.Node != s.node:
		return id, fmt.Errorf("store %s belongs to node %q, this is %q: %w", s.path, id.Node, s.node, errDamaged)
	}
	return id, nil
}

func newer(path string, id Identity) error {
	return fmt.Errorf("store %s has schema %d, this release knows %d: %w", path, id.Schema, schema, ErrNewer)
}

func identity(db *bolt.DB, path string) (id Identity, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		found, err := get(tx, bucketMeta, keyIdentity, &id)
		if err == nil && !found {
			err = fmt.Errorf("store %s has no identity record: %w", path, errDamaged)
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

// Close closes the file. It waits for running transactions and for a try to open it again.
func (s *Store) Close() error {
	s.stop()
	s.trying.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("closing store: %w", err)
	}
	return nil
}
