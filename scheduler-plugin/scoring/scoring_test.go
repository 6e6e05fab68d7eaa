package scoring

import (
	"math/rand/v2"
	"testing"
)

const mib = 1 << 20

func rules() *Rules { return &Rules{Equal: 2000, Max: 600_000, FadeFrom: 0.8} }

func TestEstimate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		facts  Facts
		millis int64
		why    Why
	}{
		"all there":                   {Facts{Total: 100 * mib}, 0, WhyCached},
		"all there, but asked":        {Facts{Total: 100 * mib, AsksRegistry: true}, 500, WhyCached},
		"nothing there":               {Facts{Total: 100 * mib, Missing: 100 * mib, BytesPerSecond: 10 * mib, UnpackPerSecond: 50 * mib}, 12_500, WhyEmpty},
		"half of it":                  {Facts{Total: 100 * mib, Missing: 50 * mib, BytesPerSecond: 10 * mib, UnpackPerSecond: 50 * mib}, 6_500, WhyPartly},
		"on its way":                  {Facts{Total: 100 * mib, Joining: 50 * mib, Ahead: 50 * mib, BytesPerSecond: 10 * mib, UnpackPerSecond: 50 * mib}, 6_500, WhyJoins},
		"behind others":               {Facts{Total: 100 * mib, Missing: 100 * mib, Ahead: 100 * mib, BytesPerSecond: 10 * mib, UnpackPerSecond: 50 * mib}, 22_500, WhyEmpty},
		"others do not matter":        {Facts{Total: 100 * mib, Ahead: 100 * mib, BytesPerSecond: mib}, 0, WhyCached},
		"no agent":                    {Facts{Total: mib, Missing: mib, BytesPerSecond: mib, UnpackPerSecond: mib, Unknown: true}, 2_500, WhyUnknown},
		"longer than the scale":       {Facts{Total: 1 << 50, Missing: 1 << 50, BytesPerSecond: 1, UnpackPerSecond: 1}, 600_000, WhyEmpty},
		"barred, though all is there": {Facts{Total: mib, Bar: WhyOffline}, 600_000, WhyOffline},
		"no speed":                    {Facts{Total: mib, Missing: mib}, 600_000, WhyEmpty},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := rules().Estimate(tt.facts)
			if e.Millis != tt.millis || e.Why != tt.why {
				t.Errorf("Estimate = %d ms, %s, want %d ms, %s", e.Millis, e.Why, tt.millis, tt.why)
			}
			if e.Ready().Milliseconds() != e.Millis {
				t.Errorf("Ready() = %s of %d ms", e.Ready(), e.Millis)
			}
		})
	}
}

// TestScale pins what docs/scheduler.md says of the scale.
func TestScale(t *testing.T) {
	t.Parallel()
	for millis, want := range map[int64]int64{0: 100, 2000: 100, 5000: 84, 10_000: 72, 30_000: 53, 120_000: 28, 600_000: 0, 1 << 60: 0} {
		if got := rules().Score(millis); got != want {
			t.Errorf("Score(%d) = %d, want %d", millis, got, want)
		}
	}
}

func TestWhatIsNearTheBestIsAsGood(t *testing.T) {
	t.Parallel()
	s := rules().Scorer(60_000)
	if a, b := s.Score(60_000), s.Score(61_999); a != b {
		t.Errorf("1.999 s more score %d and %d, want the same", a, b)
	}
	if a, b := s.Score(60_000), s.Score(70_000); a <= b {
		t.Errorf("10 s more score %d and %d, want less", a, b)
	}
}

func TestFading(t *testing.T) {
	t.Parallel()
	r := rules()
	for load, want := range map[float64]int64{0: 100, 0.8: 100, 0.9: 50, 0.95: 25, 1: 0, 1.5: 0} {
		if got := r.Score(r.Faded(0, load)); got != want {
			t.Errorf("of a score of 100 at a load of %v are left %d, want %d", load, got, want)
		}
	}
	if never := (&Rules{Equal: 2000, Max: 600_000, FadeFrom: 1}); never.Faded(7, 1.2) != 7 {
		t.Error("a score fades that never does")
	}
}

// anyFacts are valid facts of any size.
func anyFacts(r *rand.Rand) Facts {
	total := r.Int64N(1 << 34)
	missing := r.Int64N(total + 1)
	joining := r.Int64N(total - missing + 1)
	return Facts{
		Total: total, Missing: missing, Joining: joining, Ahead: joining + r.Int64N(1<<34),
		BytesPerSecond: r.Int64N(1 << 27), UnpackPerSecond: r.Int64N(1 << 28), AsksRegistry: r.IntN(2) == 0,
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	scale := rules()
	for range 100_000 {
		f := anyFacts(r)
		load := r.Float64() * 1.2
		millis := scale.Faded(scale.Estimate(f).Millis, load)
		score := scale.Score(millis)
		if score < 0 || score > best || millis < 0 || millis > scale.Max {
			t.Fatalf("%+v at a load of %v: %d ms, score %d", f, load, millis, score)
		}
		less := f
		less.Missing = r.Int64N(f.Missing + 1)
		if m := scale.Faded(scale.Estimate(less).Millis, load); m > millis {
			t.Fatalf("%+v takes %d ms; with %d missing %d ms", f, millis, less.Missing, m)
		}
		faster := f
		faster.BytesPerSecond += r.Int64N(1 << 20)
		if scale.Estimate(faster).Millis > scale.Estimate(f).Millis {
			t.Fatalf("%+v is slower at %d bytes/s", f, faster.BytesPerSecond)
		}
		if fuller := scale.Faded(scale.Estimate(f).Millis, load+0.05); fuller < millis {
			t.Fatalf("%+v: a fuller node scores better, %d ms instead of %d", f, fuller, millis)
		}
	}
}

func TestWhysHaveNames(t *testing.T) {
	t.Parallel()
	for w := WhyCached; w <= WhyOtherPlatform; w++ {
		if w.String() == "" {
			t.Errorf("%d has no name", w)
		}
		if w.Bars() != (w > WhyUnknown) {
			t.Errorf("%s.Bars() = %v", w, w.Bars())
		}
	}
}
