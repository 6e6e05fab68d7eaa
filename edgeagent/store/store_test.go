package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"edgecache.dev/api/v1alpha1"
)

const childEnv = "STORE_TEST_CHECK"

// TestMain lets the test binary be the child that checks files.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	err := CheckFile(os.Args[len(os.Args)-1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(ExitCode(err))
}

func inChild(ctx context.Context, path string) error {
	return InChild("/usr/bin/env", childEnv+"=1", "GORACE=atexit_sleep_ms=0", os.Args[0])(ctx, path)
}

func TestReopenRemembers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, origin := open(t, dir, "n1")
	if !origin.New {
		t.Error("a store in an empty directory is not New")
	}
	desired := Desired{UID: "u", Generation: 3, Known: true, Spec: v1alpha1.NodeImageCacheSpec{
		NodeUID: "node-uid", Images: []v1alpha1.NodeImage{{Name: "docker.io/library/app:v1", Digest: "sha256:x", Owners: []string{"ns/a"}}},
	}}
	entry := Entry{Name: "docker.io/library/app:v1", Digest: "sha256:x", Previous: []string{"sha256:w"},
		Failure: &Failure{Digest: "sha256:y", Reason: "NotFound", Attempts: 2, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	if err := errors.Join(s.Write(Change{Desired: &desired}), s.Write(Change{Save: []Entry{entry, {Name: "gone"}}}), s.Write(Change{Drop: []string{"gone", "never"}}), s.Close()); err != nil {
		t.Fatal(err)
	}

	s, origin = open(t, dir, "n1")
	if origin.New || origin.Damage != nil {
		t.Errorf("origin after reopening = %+v", origin)
	}
	got, found, err := s.Desired()
	if err != nil || !found {
		t.Fatalf("Desired: found %v, error %v", found, err)
	}
	if diff := cmp.Diff(desired, got); diff != "" {
		t.Errorf("desired (-want +got):\n%s", diff)
	}
	ledger, err := s.Ledger()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]Entry{entry.Name: entry}, ledger); diff != "" {
		t.Errorf("ledger (-want +got):\n%s", diff)
	}
}

func TestNothingNewIsNotWritten(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir(), "n1")
	write := func() error {
		return errors.Join(s.Write(Change{Desired: &Desired{UID: "u"}}), s.Write(Change{Save: []Entry{{Name: "a"}}, Drop: []string{"b"}}))
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	before := transactions(t, s)
	if err := write(); err != nil {
		t.Fatal(err)
	}
	if after := transactions(t, s); after != before {
		t.Errorf("%d transactions committed by writing what stood there", after-before)
	}
}

func TestOpenOutcomes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		harm    func(t *testing.T, path string)
		node    string
		wantErr error
		wantWhy error
		aside   bool
	}{
		"intact":                    {harm: func(*testing.T, string) {}},
		"another node's file":       {harm: func(*testing.T, string) {}, node: "n2", aside: true},
		"an empty file":             {harm: truncate(0), aside: true},
		"cut in the middle":         {harm: truncate(9000), aside: true},
		"both meta pages zeroed":    {harm: overwrite(0, 2*4096), aside: true},
		"a record changed in place": {harm: flipRecord, aside: true},
		"identity lost":             {harm: edit(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketMeta)).Delete([]byte(keyIdentity)) }), aside: true},
		"a bucket lost":             {harm: edit(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucketLedger)) }), aside: true},
		"a newer schema": {harm: edit(func(tx *bolt.Tx) error {
			w := &writer{tx: tx}
			return w.put(bucketMeta, keyIdentity, Identity{Schema: schema + 1, Node: "n1"})
		}), wantWhy: ErrNewer},
		"open elsewhere": {harm: lock, wantErr: ErrLocked},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, _ := open(t, dir, "n1")
			if err := errors.Join(s.Write(Change{Save: entries(200)}), s.Close()); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, FileName)
			tc.harm(t, path)
			if tc.node == "" {
				tc.node = "n1"
			}

			s, origin, err := openWithin(t.Context(), dir, tc.node, inChild, 0)
			if !errors.Is(err, tc.wantErr) || (err == nil) != (tc.wantErr == nil) {
				t.Fatalf("Open error = %v, want %v", err, tc.wantErr)
			}
			if !errors.Is(origin.Degraded, tc.wantWhy) || (origin.Degraded == nil) != (tc.wantWhy == nil) {
				t.Fatalf("degraded for %v, want %v", origin.Degraded, tc.wantWhy)
			}
			if (origin.Aside != "") != tc.aside || origin.New != tc.aside {
				t.Errorf("origin = %+v, want moved aside %v", origin, tc.aside)
			}
			if err != nil {
				return
			}
			t.Cleanup(func() { closeStore(t, s) })
			ledger, err := s.Ledger()
			if want := map[bool]int{false: 200, true: 0}[tc.aside]; err != nil || len(ledger) != want {
				t.Errorf("%d entries, error %v, want %d entries", len(ledger), err, want)
			}
		})
	}
}

func TestDamagedFilesAreKeptButNotHoarded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range keepDamaged + 2 {
		s, _ := open(t, dir, "n1")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		truncate(100)(t, filepath.Join(dir, FileName))
	}
	open(t, dir, "n1")
	found, err := filepath.Glob(filepath.Join(dir, FileName+".damaged-*"))
	if err != nil || len(found) != keepDamaged {
		t.Errorf("damaged files kept: %v (%v), want %d", found, err, keepDamaged)
	}
}

// TestNoWrongValue flips single bits all over a store: whatever opens must give exactly
// what was stored.
func TestNoWrongValue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir, "n1")
	want := map[string]Entry{}
	for _, e := range entries(50) {
		want[e.Name] = e
	}
	if err := errors.Join(s.Write(Change{Save: entries(50)}), s.Close()); err != nil {
		t.Fatal(err)
	}
	intact, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	refused := 0
	const flips = 150
	for range flips {
		at, bit := rng.IntN(len(intact)), rng.IntN(8)
		if got := ledgerOf(t, intact, at, bit); got == nil {
			refused++
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("byte %d bit %d: wrong value served (-want +got):\n%s", at, bit, diff)
		}
	}
	if refused == 0 {
		t.Error("no flip was noticed: the test does not reach the records")
	}
	t.Logf("%d of %d flips refused, the others harmless", refused, flips)
}

// ledgerOf opens a copy with one bit flipped and gives its ledger, nil if it was refused.
func ledgerOf(t *testing.T, intact []byte, at, bit int) map[string]Entry {
	t.Helper()
	s := newStore(t.Context(), t.TempDir(), "n1", inChild)
	b := append([]byte(nil), intact...)
	b[at] ^= 1 << bit
	if err := os.WriteFile(s.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.db, err = s.load(t.Context()); err != nil {
		if !IsDamage(err) {
			t.Fatalf("byte %d bit %d: %v", at, bit, err)
		}
		return nil
	}
	defer closeStore(t, s)
	got, err := s.Ledger()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRecordInAnotherPlaceIsDamage(t *testing.T) {
	t.Parallel()
	b, err := encode(bucketLedger, "a", Entry{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	var e Entry
	if err := decode(bucketLedger, "a", b, &e); err != nil || e.Name != "a" {
		t.Errorf("decode in place: %+v, %v", e, err)
	}
	for _, place := range [][2]string{{bucketLedger, "b"}, {bucketDesired, "a"}} {
		if err := decode(place[0], place[1], b, &e); !errors.Is(err, errDamaged) {
			t.Errorf("decode as %v: %v, want damage", place, err)
		}
	}
}

func TestChildVerdicts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		damage bool
		locked bool
		ok     bool
	}{
		"intact":          {script: "exit 0", ok: true},
		"damaged":         {script: "echo bad record >&2; exit 3", damage: true},
		"a fault":         {script: "kill -SEGV $$", damage: true},
		"out of memory":   {script: "kill -KILL $$"},
		"told to stop":    {script: "kill -TERM $$"},
		"fatal Go fault":  {script: "echo fatal error: fault >&2; exit 2", damage: true},
		"locked":          {script: "exit 4", locked: true},
		"could not tell":  {script: "echo permission denied >&2; exit 1"},
		"no such command": {script: ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			argv := []string{"/bin/sh", "-c", tc.script, "sh"}
			if tc.script == "" {
				argv = []string{filepath.Join(t.TempDir(), "nothing")}
			}
			err := InChild(argv...)(t.Context(), "some.db")
			if (err == nil) != tc.ok || IsDamage(err) != tc.damage || errors.Is(err, ErrLocked) != tc.locked {
				t.Errorf("verdict %v, want ok %v, damage %v", err, tc.ok, tc.damage)
			}
		})
	}
}

// TestAnEndedCheckIsNoDamage: a check that was stopped with the agent, or killed when memory
// ran out, leaves the file alone, and is begun anew while there is a point.
func TestAnEndedCheckIsNoDamage(t *testing.T) {
	t.Parallel()
	t.Run("killed once", func(t *testing.T) {
		t.Parallel()
		been := filepath.Join(t.TempDir(), "been")
		script := fmt.Sprintf("test -e %[1]s || { touch %[1]s; kill -KILL $$; }", been)
		if err := InChild("/bin/sh", "-c", script, "sh")(t.Context(), "some.db"); err != nil {
			t.Errorf("verdict %v, want intact: the second check told", err)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s, _ := open(t, dir, "n1")
		if err := errors.Join(s.Write(Change{Save: entries(3)}), s.Close()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, origin, err := Open(ctx, dir, "n1", InChild("/bin/sh", "-c", "exec sleep 60", "sh"))
		if err == nil || IsDamage(err) || origin.Aside != "" {
			t.Errorf("Open: %+v, %v, want an error that is no damage", origin, err)
		}
		s, origin = open(t, dir, "n1")
		if ledger, err := s.Ledger(); err != nil || len(ledger) != 3 || origin.New {
			t.Errorf("%d entries (%v), want the store as it was", len(ledger), err)
		}
	})
}

// TestRefusalIsNoDamage: what the system says about opening a file is not about its content.
func TestRefusalIsNoDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink(FileName, filepath.Join(dir, FileName)); err != nil { // ELOOP stands for EROFS, ENOMEM and others
		t.Fatal(err)
	}
	s, origin := open(t, dir, "n1")
	if origin.Degraded == nil || IsDamage(origin.Degraded) || origin.Aside != "" {
		t.Errorf("Open: %+v, want a degraded store and no damage", origin)
	}
	if err := s.Write(Change{Save: entries(1)}); err == nil || err.Error() != origin.Degraded.Error() {
		t.Errorf("Write: %v, want %v", err, origin.Degraded)
	}
	for errno, want := range map[syscall.Errno]bool{syscall.EROFS: true, syscall.ENOMEM: true, syscall.EMFILE: true, syscall.EACCES: true, syscall.EIO: false} {
		if got := refused(fmt.Errorf("opening: %w", &os.PathError{Op: "open", Err: errno})); got != want {
			t.Errorf("refused(%v) = %v, want %v", errno, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := encode(bucketLedger, "a", Entry{Name: "a", Previous: []string{"x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte{recordVersion, 0, 0, 0, 0, '{'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Entry
		if err := decode(bucketLedger, "a", b, &e); err != nil && !errors.Is(err, errDamaged) {
			t.Errorf("decode(%x) = %v, want damage or success", b, err)
		}
	})
}

func open(t *testing.T, dir, node string) (*Store, Origin) {
	t.Helper()
	s, origin, err := Open(t.Context(), dir, node, inChild)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s, origin
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func entries(n int) []Entry {
	var out []Entry
	for i := range n {
		out = append(out, Entry{Name: fmt.Sprintf("docker.io/library/app%03d:v1", i), Digest: "sha256:" + strings.Repeat("a", 64)})
	}
	return out
}

func transactions(t *testing.T, s *Store) int {
	t.Helper()
	tx, err := s.db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	return tx.ID()
}

func truncate(size int64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
}

func overwrite(at, n int) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(make([]byte, n), int64(at))
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func flipRecord(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(string(b), `"digest":"sha256:aaaa`)
	b[at+len(`"digest":"sha256:`)] = 'b'
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func edit(change func(*bolt.Tx) error) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(change), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func lock(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}
