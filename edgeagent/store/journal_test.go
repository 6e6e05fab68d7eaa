package store

import (
	"errors"
	"strconv"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func note(image string, at time.Time) Change {
	return Change{Notes: []Record{{Time: at, Kind: ImageCached, Image: image}}}
}

func journal(t *testing.T, s *Store) Journal {
	t.Helper()
	j, err := s.Journal()
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestJournalIsBounded: the newest are kept, in their order, over restarts, and those that had to go are counted.
func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir, "n1")
	var all Change
	for i := range maxRecords + 10 {
		all.Notes = append(all.Notes, note(strconv.Itoa(i), noon.Add(time.Duration(i)*time.Second)).Notes...)
	}
	if err := errors.Join(s.Write(all), s.Write(note("last", noon.Add(time.Hour))), s.Close()); err != nil {
		t.Fatal(err)
	}
	s, _ = open(t, dir, "n1")
	j := journal(t, s)
	if len(j.Records) != maxRecords || j.Dropped != 11 || j.Records[0].Image != "11" || j.Records[maxRecords-1].Image != "last" {
		t.Fatalf("%d records from %+v, %d dropped", len(j.Records), j.Records[0], j.Dropped)
	}
	for i := range j.Records[1:] {
		if j.Records[i+1].Seq != j.Records[i].Seq+1 || j.Records[i].Doubtful {
			t.Errorf("%+v after %+v", j.Records[i+1], j.Records[i])
		}
	}
}

// TestToldIsForgotten: and what was noted meanwhile is not. Sequence numbers are never used twice.
func TestToldIsForgotten(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir(), "n1")
	if err := s.Write(note("a", noon)); err != nil {
		t.Fatal(err)
	}
	told := journal(t, s)
	if err := errors.Join(s.Write(note("b", noon)), s.Told(told, noon)); err != nil {
		t.Fatal(err)
	}
	rest := journal(t, s)
	if len(rest.Records) != 1 || rest.Records[0].Image != "b" {
		t.Fatalf("left: %+v", rest)
	}
	if err := errors.Join(s.Told(rest, noon), s.Write(note("c", noon))); err != nil {
		t.Fatal(err)
	}
	if last := journal(t, s); len(last.Records) != 1 || last.Records[0].Seq != 2 {
		t.Errorf("after all was told: %+v", last)
	}
	before := s.Stats().Commits
	if err := s.Told(Journal{}, noon); err != nil || s.Stats().Commits != before {
		t.Errorf("telling nothing: %v, %d commits", err, s.Stats().Commits-before)
	}
}

// TestDoubtfulTimes: a clock that goes back, as after a boot without a battery, is not trusted until it is past what
// was stored, or somebody with a clock answered.
func TestDoubtfulTimes(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir(), "n1")
	for _, c := range []Change{note("good", noon), note("back", noon.Add(-time.Hour)), note("on", noon.Add(time.Minute))} {
		if err := s.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	j := journal(t, s)
	if j.Records[0].Doubtful || !j.Records[1].Doubtful || j.Records[2].Doubtful {
		t.Errorf("doubtful: %+v, want the second alone", j.Records)
	}
	if err := errors.Join(s.Told(j, noon.Add(-2*time.Hour)), s.Write(note("true", noon.Add(-time.Hour)))); err != nil {
		t.Fatal(err)
	}
	if j := journal(t, s); j.Records[0].Doubtful {
		t.Error("a time after one that the API server answered at is doubted")
	}
}
