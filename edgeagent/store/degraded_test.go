package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"edgecache.dev/api/v1alpha1"
)

func wished(generation int64) Desired {
	return Desired{UID: "u", Generation: generation, Known: true, Spec: v1alpha1.NodeImageCacheSpec{
		Images: []v1alpha1.NodeImage{{Name: "r.io/app:v1", Digest: "sha256:x"}},
		Remove: []v1alpha1.RemoveImage{{Name: "r.io/old:v1"}},
	}}
}

// recalled is what snapshots give of a wish: nothing is to be removed on the strength of it.
func recalled(d Desired) Desired {
	d.Known, d.Spec.Remove = false, nil
	return d
}

// filled makes a store with a wish and entries, and closes it.
func filled(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s, _ := open(t, dir, "n1")
	for generation := range int64(3) {
		if err := s.Write(Change{Desired: new(wished(generation + 1)), Save: entries(3)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func expectWish(t *testing.T, s *Store, want Desired) {
	t.Helper()
	got, found, err := s.Desired()
	if diff := cmp.Diff(want, got); err != nil || !found || diff != "" {
		t.Errorf("wish found %v, %v (-want +got):\n%s", found, err, diff)
	}
}

// TestTheWishOutlivesTheStore: whatever happens to the store, and to one of the snapshots, the wish is known.
func TestTheWishOutlivesTheStore(t *testing.T) {
	t.Parallel()
	all := []string{FileName, "wish-a", "wish-b"}
	tests := map[string]struct {
		harm map[string]func(*testing.T, string)
		want int64 // generation; 0 for none
	}{
		"store damaged":                  {map[string]func(*testing.T, string){FileName: truncate(100)}, 3},
		"store gone":                     {map[string]func(*testing.T, string){FileName: remove}, 3},
		"newest snapshot cut":            {map[string]func(*testing.T, string){FileName: remove, "wish-b": truncate(50)}, 2},
		"older snapshot gone":            {map[string]func(*testing.T, string){FileName: remove, "wish-a": remove}, 3},
		"a byte of the newest changed":   {map[string]func(*testing.T, string){FileName: remove, "wish-b": overwrite(40, 1)}, 2},
		"all damaged":                    {map[string]func(*testing.T, string){FileName: truncate(9), "wish-a": truncate(9), "wish-b": truncate(0)}, 0},
		"snapshots gone, store is there": {map[string]func(*testing.T, string){"wish-a": remove, "wish-b": remove}, -3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filled(t)
			for _, file := range all {
				if harm := tc.harm[file]; harm != nil {
					harm(t, filepath.Join(dir, file))
				}
			}
			s, origin := open(t, dir, "n1")
			switch {
			case tc.want < 0:
				expectWish(t, s, wished(-tc.want))
				if newest, found := s.wish.newest(); !found || newest.Desired.Generation != -tc.want {
					t.Errorf("the snapshot is not made again: %+v", newest)
				}
			case tc.want == 0:
				if _, found, err := s.Desired(); found || err != nil || origin.Wish {
					t.Errorf("a wish out of nothing: %v, %+v", err, origin)
				}
			default:
				expectWish(t, s, recalled(wished(tc.want)))
				if j := journal(t, s); len(j.Records) != 1 || j.Records[0].Kind != StoreMadeAnew {
					t.Errorf("journal: %+v", j)
				}
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestASnapshotIsOfOneNode: a cloned disk gives no node the wish of another.
func TestASnapshotIsOfOneNode(t *testing.T) {
	t.Parallel()
	s, origin := open(t, filled(t), "n2")
	if _, found, _ := s.Desired(); found || origin.Wish {
		t.Errorf("node n2 has the wish of n1: %+v", origin)
	}
}

// TestAnUnchangedWishIsNotWritten, and a changed one into one file of two.
func TestAnUnchangedWishIsNotWritten(t *testing.T) {
	t.Parallel()
	s, _ := open(t, filled(t), "n1")
	if err := s.Write(Change{Desired: new(wished(3))}); err != nil || s.Stats().Commits != 0 {
		t.Errorf("%d writes of what stood there, %v", s.Stats().Commits, err)
	}
	if err := s.Write(Change{Desired: new(wished(4))}); err != nil || s.Stats().Commits != 2 || s.Stats().Bytes < 8192 {
		t.Errorf("%+v for a new wish, %v, want a commit and a snapshot", s.Stats(), err)
	}
}

// TestAWishHeardWhileTheStoreWasNone: the process ended before the file could be used again, and what was to be removed
// by the older wish is wished since.
func TestAWishHeardWhileTheStoreWasNone(t *testing.T) {
	t.Parallel()
	other := wished(9)
	other.UID = "another"
	for name, tc := range map[string]struct{ snapshot, want Desired }{
		"newer":                {wished(4), recalled(wished(4))},
		"older":                {wished(2), wished(3)},
		"of an earlier object": {other, wished(3)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filled(t)
			snapshots := openSnapshots(dir, "n1", &counters{})
			if err := snapshots.keep(tc.snapshot); err != nil {
				t.Fatal(err)
			}
			s, _ := open(t, dir, "n1")
			expectWish(t, s, tc.want)
			if newest, found := s.wish.newest(); !found || newest.Desired.Generation != tc.want.Generation {
				t.Errorf("the newest snapshot is %+v", newest)
			}
		})
	}
}

// TestMigration opens a file that a release with schema 1 made.
func TestMigration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	golden, err := os.ReadFile("testdata/schema-1.db")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), golden, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a migrated file is opened as any other
		s, origin := open(t, dir, "n1")
		if origin != (Origin{}) {
			t.Fatalf("origin: %+v", origin)
		}
		d, found, err := s.Desired()
		if err != nil || !found || !d.Known || d.Generation != 3 || string(d.Spec.Credentials[0].Sealed) != "sealed" || d.Sandbox.Image != "r.io/pause:3" {
			t.Errorf("wish %+v, %v, %v", d, found, err)
		}
		ledger, err := s.Ledger()
		if err != nil || len(ledger) != 3 || ledger["docker.io/library/app:v1"].Previous[0] != "sha256:w" ||
			ledger["docker.io/library/bad:v1"].Failure.Reason != "NotFound" || ledger["docker.io/library/old:v1"].RemovedSince == nil {
			t.Errorf("ledger %+v, %v", ledger, err)
		}
		if err := errors.Join(s.Write(note("a", noon)), s.Close(), inChild(t.Context(), s.path)); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(filepath.Join(dir, FileName+".schema-1"))
	if err != nil || string(kept) != string(golden) {
		t.Errorf("the file of before is not kept as it was: %v", err)
	}
}

// TestANewerFileIsLeftAlone: what of it can be read is worked on, and nothing is written to it.
func TestANewerFileIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	path := filepath.Join(dir, FileName)
	edit(func(tx *bolt.Tx) error {
		w := &writer{tx: tx}
		return w.put(bucketMeta, keyIdentity, Identity{Schema: schema + 1, Node: "n1"})
	})(t, path)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, origin := open(t, dir, "n1")
	if !errors.Is(origin.Degraded, ErrNewer) {
		t.Fatalf("origin: %+v", origin)
	}
	expectWish(t, s, wished(3))
	if ledger, err := s.Ledger(); err != nil || len(ledger) != 3 {
		t.Errorf("%d entries, %v, want those of the file", len(ledger), err)
	}
	if err := s.Write(Change{Desired: new(wished(4)), Save: entries(5)}); !errors.Is(err, ErrNewer) {
		t.Errorf("Write: %v", err)
	}
	if newest, _ := s.wish.newest(); newest.Desired.Generation != 4 {
		t.Errorf("the wish is not kept beside the file: %+v", newest)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the newer file was changed, %v", err)
	}
}

// TestAHangingCheck has the agent work from the snapshots, and the file opened later.
func TestAHangingCheck(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]error{"killed": errNoVerdict, "timed out": context.DeadlineExceeded, "no program": os.ErrNotExist} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stuck := true
			s, origin, err := Open(t.Context(), filled(t), "n1", func(ctx context.Context, path string) error {
				if stuck {
					return fmt.Errorf("checking: %w", verdict)
				}
				return inChild(ctx, path)
			})
			if err != nil || origin.Degraded == nil || origin.Aside != "" {
				t.Fatalf("Open: %+v, %v", origin, err)
			}
			t.Cleanup(func() { closeStore(t, s) })
			expectWish(t, s, recalled(wished(3)))
			if reopened, err := s.Mend(); reopened || err == nil {
				t.Fatalf("Mend: %v, %v", reopened, err)
			}
			stuck = false
			s.mended(t)
			expectWish(t, s, wished(3))
		})
	}
}

// mended has the file tried again at once, until it is open: what was removed is gone from the disk only when no child
// of another test that was about to begin has it open.
func (s *Store) mended(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		if !s.next.IsZero() {
			s.next = time.Now()
		}
		s.mu.Unlock()
		reopened, err := s.Mend()
		if reopened && err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not mended: %v", err)
		}
	}
	if again, err := s.Mend(); again || err != nil {
		t.Errorf("Mend says it twice: %v, %v", again, err)
	}
}

// TestTheLockIsWaitedFor: for an agent that is ending, not for ever.
func TestTheLockIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	first, _ := open(t, dir, "n1")
	if _, _, err := openWithin(t.Context(), dir, "n1", inChild, 0); !errors.Is(err, ErrLocked) {
		t.Fatalf("Open: %v, want %v", err, ErrLocked)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = first.Close() })
	s, origin := open(t, dir, "n1")
	if origin != (Origin{}) {
		t.Errorf("origin: %+v", origin)
	}
	expectWish(t, s, wished(3))
}

// replaced has what the store writes go to another file, as to a disk that fails. bbolt reads through its mapping, which
// stays.
func (s *Store) replaced(t *testing.T, device string, flags int) {
	t.Helper()
	other, err := os.OpenFile(device, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == s.path {
			var n int
			_, _ = fmt.Sscan(fd.Name(), &n)
			if err := unix.Dup3(int(other.Fd()), n, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("nobody has %s open", s.path)
}

// TestADiskThatFails: after a flush or a write that failed nobody knows what is on the disk. The file is looked over and
// opened again, and has a state that was whole.
func TestADiskThatFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		device string
		flags  int
		want   error
		mends  bool
	}{
		"the flush fails":  {"/dev/null", os.O_RDWR, syscall.EINVAL, true}, // takes writes, and cannot be synced
		"a write fails":    {"/dev/null", os.O_RDONLY, syscall.EBADF, true},
		"the disk is full": {"/dev/full", os.O_RDWR, syscall.ENOSPC, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filled(t)
			s, _ := open(t, dir, "n1")
			var names []string
			for _, e := range entries(400) {
				names = append(names, e.Name)
			}
			// Room within the file: a write that makes it grow looks at its size first.
			if err := errors.Join(s.Write(Change{Save: entries(400)}), s.Write(Change{Drop: names[3:]})); err != nil {
				t.Fatal(err)
			}
			s.replaced(t, tc.device, tc.flags)
			if err := s.Write(Change{Save: entries(9)}); !errors.Is(err, tc.want) {
				t.Fatalf("Write: %v, want %v", err, tc.want)
			}
			if got := s.db == nil; got != tc.mends {
				t.Fatalf("given up %v, want %v", got, tc.mends)
			}
			if _, err := os.Stat(s.reserve.path); errors.Is(err, os.ErrNotExist) == tc.mends {
				t.Errorf("the reserve: %v", err)
			}
			if !tc.mends {
				return
			}
			s.mended(t)
			expectWish(t, s, wished(3))
			if err := s.Write(Change{Save: entries(9)}); err != nil {
				t.Errorf("writing after that: %v", err)
			}
			if ledger, err := s.Ledger(); err != nil || len(ledger) != 9 {
				t.Errorf("%d entries, %v", len(ledger), err)
			}
		})
	}
}
