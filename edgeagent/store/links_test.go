package store

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"edgecache.dev/offline/link"
)

// TestCheckReadsLinks: a record of the links' history that does not bear its checksum is as
// damaged as any other.
func TestCheckReadsLinks(t *testing.T) {
	t.Parallel()
	s, _, err := Open(t.Context(), t.TempDir(), "n1", func(_ context.Context, path string) error { return CheckFile(path) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveLinks(map[string][]link.Change{"r.example": {{State: link.Up, Since: time.Unix(1_800_000_000, 0)}}}, nil); err != nil {
		t.Fatal(err)
	}
	path := s.path
	if err := s.db.Update(func(tx *bolt.Tx) error {
		in := tx.Bucket([]byte(bucketLinks))
		flipped := append([]byte{}, in.Get([]byte("r.example"))...)
		flipped[len(flipped)-3] ^= 1
		return in.Put([]byte("bit.example"), flipped)
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := CheckFile(path); !IsDamage(err) {
		t.Errorf("checking a file with a damaged record of links: %v", err)
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *Store {
		s, _, err := Open(t.Context(), dir, "n1", func(_ context.Context, path string) error { return CheckFile(path) })
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if got, err := s.Links(); err != nil || len(got) != 0 {
		t.Errorf("a store without links gives %v, %v", got, err)
	}
	at := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	want := map[string][]link.Change{
		"r.example:5000": {{State: link.Up, Since: at}, {State: link.Down, Since: at.Add(time.Hour)}},
		"gone.example":   {{State: link.Up, Since: at}},
	}
	if err := s.SaveLinks(want, nil); err != nil {
		t.Fatal(err)
	}
	commits := func() (id int) {
		_ = s.db.View(func(tx *bolt.Tx) error { id = tx.ID(); return nil })
		return id
	}
	before := commits()
	if err := s.SaveLinks(want, nil); err != nil {
		t.Fatal(err)
	}
	if commits() != before {
		t.Error("what is stored was written again")
	}
	delete(want, "gone.example")
	if err := s.SaveLinks(nil, []string{"gone.example", "never.example"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer func() { _ = s.Close() }()
	if got, err := s.Links(); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v, links (-want +got):\n%s", err, cmp.Diff(want, got))
	}
	if err := s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketLinks)).Put([]byte("bad"), []byte("?")) }); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Links(); !IsDamage(err) || len(got) != 1 {
		t.Errorf("with a damaged record: %v, %v, want the other one and the damage", got, err)
	}
}
