package explain

import (
	"testing"
	"time"

	"edgecache.dev/scheduler-plugin/scoring"
)

var rules = scoring.Rules{Equal: 2000, Max: 600_000, FadeFrom: 0.8}

// facts of an image of 312 MB over 2 MB/s, of which something is missing.
func facts(missing, joining int64) scoring.Facts {
	return scoring.Facts{Total: 312_000_000, Missing: missing, Joining: joining, Ahead: joining, BytesPerSecond: 2_000_000, UnpackPerSecond: 50_000_000}
}

func TestWords(t *testing.T) {
	t.Parallel()
	with := func(f scoring.Facts, edit func(*scoring.Facts)) scoring.Facts { edit(&f); return f }
	bar := func(f scoring.Facts, why scoring.Why) scoring.Facts { f.Bar = why; return f }
	for name, tt := range map[string]struct {
		facts scoring.Facts
		want  string
	}{
		"cached":   {facts(0, 0), "all 312 MB are there"},
		"asks":     {with(facts(0, 0), func(f *scoring.Facts) { f.AsksRegistry = true }), "all 312 MB are there, a registry is asked nevertheless"},
		"joins":    {facts(0, 10_000_000), "302 MB of 312 MB are there, the rest is on its way and takes about 5.7s"},
		"partly":   {facts(42_000_000, 0), "270 MB of 312 MB are there, the rest takes about 22s"},
		"empty":    {facts(312_000_000, 0), "none of 312 MB is there, they take about 2m43s"},
		"unknown":  {with(facts(12_000_000, 0), func(f *scoring.Facts) { f.Unknown = true }), "no agent tells what is there; as far as is known 300 MB of 312 MB, the rest takes about 6.7s"},
		"offline":  {bar(facts(312_000_000, 0), scoring.WhyOffline), "312 MB of 312 MB are missing, and a registry is out of reach"},
		"ask":      {bar(facts(0, 0), scoring.WhyOffline), "all images are there, but a registry has to be asked, which is out of reach"},
		"never":    {bar(facts(312_000_000, 0), scoring.WhyNeverPulled), "an image is missing, and imagePullPolicy is Never"},
		"room":     {bar(facts(1_500_000_000, 0), scoring.WhyNoRoom), "the disk has no room for the 1.5 GB that are missing"},
		"platform": {bar(facts(0, 0), scoring.WhyOtherPlatform), "an image has nothing for the platform of the node"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := rules.Estimate(tt.facts)
			if got := Words(&e); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestDecision(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		facts      scoring.Facts
		mean       int64
		candidates int
		tell       Reason
		want       string
	}{
		"saved":        {facts(0, 0), 94_000, 12, ReasonImagesPresent, "Images on n: all 312 MB are there; the 12 candidates need 1m34s on average."},
		"all are warm": {facts(0, 0), 0, 12, ReasonNone, "Images on n: all 312 MB are there; the 12 candidates need 0s on average."},
		"one node":     {facts(0, 0), 0, 0, ReasonNone, "Images on n: all 312 MB are there."},
		"costs": {facts(312_000_000, 0), 162_740, 3, ReasonImagesMissing,
			"Images on n: none of 312 MB is there, they take about 2m43s; the 3 candidates need 2m43s on average."},
		"costs less than counts": {facts(1_000_000, 0), 1_020, 3, ReasonNone, "Images on n: 311 MB of 312 MB are there, the rest takes about 1s; the 3 candidates need 1s on average."},
		"barred": {scoring.Facts{Total: 5, Missing: 5, Bar: scoring.WhyOffline}, 600_000, 2, ReasonImagesOutOfReach,
			"Images on n: 5 B of 5 B are missing, and a registry is out of reach; the 2 candidates need 10m0s on average."},
		"unknown": {scoring.Facts{Total: 5000, Missing: 5000, Unknown: true}, 600_000, 0, ReasonNone,
			"Images on n: no agent tells what is there; as far as is known 0 B of 5.0 kB, the rest takes about 10m0s."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := Decision{Node: "n", Chosen: rules.Estimate(tt.facts), Candidates: tt.candidates, MeanMillis: tt.mean}
			if got := d.Tell(2 * time.Second); got != tt.tell {
				t.Errorf("told is %q, want %q", got, tt.tell)
			}
			if got := d.String(); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestSaved(t *testing.T) {
	t.Parallel()
	d := Decision{Chosen: scoring.Estimate{Millis: 5_000}, Candidates: 3, MeanMillis: 4_000}
	if d.Saved() != -time.Second {
		t.Errorf("saved %v, want a loss of a second", d.Saved())
	}
	if d.Candidates = 0; d.Saved() != 0 {
		t.Errorf("saved %v without candidates", d.Saved())
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9_949: "9.9 kB", 9_950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB", 2_340_000_000_000: "2.3 TB", 5e15: "5000 TB"} {
		if got := bytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
