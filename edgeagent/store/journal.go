package store

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// maxRecords bounds the journal: the oldest records make room.
const maxRecords = 256

// Kind of what happened on a node.
type Kind string

// What is recorded. Each is a transition: what lasts, or is tried again, is none.
const (
	ImageCached    Kind = "ImageCached"    // an image is there as wished
	ImageLost      Kind = "ImageLost"      // one that was there is not any more
	ImageRestored  Kind = "ImageRestored"  // and is back
	ImageFailing   Kind = "ImageFailing"   // an image could not be brought
	ImageRecovered Kind = "ImageRecovered" // and now could
	ImageRemoved   Kind = "ImageRemoved"   // an image was given up as asked for
	ImageDamaged   Kind = "ImageDamaged"   // one that was there was not as it should be on disk
	LinkDown       Kind = "LinkDown"       // the API server or a registry is away
	LinkUp         Kind = "LinkUp"         // and is back
	NodeBooted     Kind = "NodeBooted"     // the node was started anew
	StoreMadeAnew  Kind = "StoreMadeAnew"  // the store was damaged
)

// Record is one thing that happened.
type Record struct {
	// Seq counts the records of a store. The store gives it.
	Seq uint64 `json:"seq"`
	// Time when it happened, by the node's clock.
	Time time.Time `json:"time"`
	// Doubtful says that the clock was wrong: before the release was built, or before a
	// time that was stored already.
	Doubtful bool `json:"doubtful,omitempty"`
	Kind     Kind `json:"kind"`
	// Image and Digest that it is about, "" for none.
	Image  string `json:"image,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Reason of a failure, "" for none.
	Reason string `json:"reason,omitempty"`
	// Message for people, "" where the above says all. It has no secrets.
	Message string `json:"message,omitempty"`
}

// Journal is what happened and was not told yet.
type Journal struct {
	// Records, oldest first.
	Records []Record `json:"records,omitempty"`
	// Dropped is how many older ones had to make room.
	Dropped uint64 `json:"dropped,omitempty"`
}

// ring is where the journal stands: records First to Next-1 are kept.
type ring struct {
	First   uint64 `json:"first"`
	Next    uint64 `json:"next"`
	Dropped uint64 `json:"dropped,omitempty"`
	// Newest time of a record since the journal was told last.
	Newest time.Time `json:"newest,omitzero"`
}

func recordKey(seq uint64) string { return string(binary.BigEndian.AppendUint64(nil, seq)) }

// note appends records to the journal.
func (w *writer) note(records []Record) error {
	if len(records) == 0 {
		return nil
	}
	var r ring
	if _, err := get(w.tx, bucketMeta, keyJournal, &r); err != nil {
		return err
	}
	for _, n := range records {
		n.Seq, n.Doubtful = r.Next, n.Doubtful || n.Time.Before(r.Newest)
		if n.Time.After(r.Newest) {
			r.Newest = n.Time
		}
		r.Next++
		if err := w.put(bucketJournal, recordKey(n.Seq), n); err != nil {
			return err
		}
	}
	for ; r.Next-r.First > maxRecords; r.First++ {
		if err := w.drop(bucketJournal, recordKey(r.First)); err != nil {
			return err
		}
		r.Dropped++
	}
	return w.put(bucketMeta, keyJournal, r)
}

// Journal gives what was not told yet: none while the file cannot be used.
func (s *Store) Journal() (j Journal, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		j, err = readJournal(tx)
		return err
	}, func(*known) {})
	return j, err
}

func readJournal(tx *bolt.Tx) (j Journal, err error) {
	var r ring
	if _, err := get(tx, bucketMeta, keyJournal, &r); err != nil {
		return j, err
	}
	j.Dropped = r.Dropped
	err = each(tx, bucketJournal, func(key string, b []byte) error {
		var n Record
		err := decode(bucketJournal, key, b, &n)
		j.Records = append(j.Records, n)
		return err
	})
	slices.SortFunc(j.Records, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return j, err
}

// Told takes out of the journal what was told. The time now is one that somebody with a
// clock has just answered at: later records are measured by it.
func (s *Store) Told(j Journal, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.update(func(w *writer) error {
		var r ring
		if found, err := get(w.tx, bucketMeta, keyJournal, &r); err != nil || !found {
			return err
		}
		for _, n := range j.Records {
			if err := w.drop(bucketJournal, recordKey(n.Seq)); err != nil {
				return err
			}
			r.First = max(r.First, n.Seq+1)
		}
		r.Dropped -= min(r.Dropped, j.Dropped)
		if w.wrote || j.Dropped > 0 {
			r.Newest = now
			return w.put(bucketMeta, keyJournal, r)
		}
		return nil
	})
}
