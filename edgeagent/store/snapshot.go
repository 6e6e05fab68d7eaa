package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// snapshotNames are the files beside the store that have the wish once more. They are
// replaced in turn, so that one is whole whatever happens to the other.
var snapshotNames = [2]string{"wish-a", "wish-b"}

const bucketSnapshot = "snapshot"

// snapshot is what such a file has, as a record with the node's name for a key.
type snapshot struct {
	Sequence uint64  `json:"sequence"`
	Desired  Desired `json:"desired"`
}

// snapshots writes the wish beside the store.
type snapshots struct {
	dir, node string
	written   *counters
	sequence  uint64 // of the newest
	sum       uint32 // of the wish in it
}

func openSnapshots(dir, node string, written *counters) snapshots {
	s := snapshots{dir: dir, node: node, written: written}
	if newest, found := s.newest(); found {
		s.sequence = newest.Sequence
		s.sum, _ = wishSum(newest.Desired) // was encoded before
	}
	return s
}

// newest finds the newest snapshot that is intact.
func (s *snapshots) newest() (newest snapshot, found bool) {
	for _, name := range snapshotNames {
		var read snapshot
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err == nil && decode(bucketSnapshot, s.node, b, &read) == nil && read.Sequence > newest.Sequence {
			newest, found = read, true
		}
	}
	return newest, found
}

// recall gives the newest wish. What came after it is not known, so the wish is not a Known
// one, and removals that it has are not carried out.
func (s *snapshots) recall() (d Desired, found bool) {
	newest, found := s.newest()
	d = newest.Desired
	d.Known, d.Spec.Remove = false, nil
	return d, found
}

// wishSum tells wishes apart.
func wishSum(d Desired) (uint32, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return 0, fmt.Errorf("encoding the wish: %w", err)
	}
	return crc32.Checksum(b, castagnoli), nil
}

// keep writes a wish over the older file, unless the newer one has it already.
func (s *snapshots) keep(d Desired) error {
	sum, err := wishSum(d)
	if err != nil || s.sequence > 0 && sum == s.sum {
		return err
	}
	b, err := encode(bucketSnapshot, s.node, snapshot{Sequence: s.sequence + 1, Desired: d})
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(s.dir, snapshotNames[(s.sequence+1)%2]), b); err != nil {
		return fmt.Errorf("writing a snapshot of the wish: %w", err)
	}
	s.written.count(int64(len(b)))
	s.sequence, s.sum = s.sequence+1, sum
	return nil
}

// replace writes a file such that it is found whole or as it was.
func replace(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
