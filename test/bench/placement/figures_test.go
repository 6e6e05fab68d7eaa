package placement

import (
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of          []float64
		share, want float64
	}{
		{[]float64{4}, 0.95, 4}, {[]float64{1, 3}, 0.5, 2}, {[]float64{1, 2, 3, 4, 5}, 0.25, 2}, {[]float64{1, 2, 3, 4, 5}, 1, 5},
	} {
		if got := quantile(c.of, c.share); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.of, c.share, got, c.want)
		}
	}
}

// TestRatiosAreOfTheSameSeed: a seed that is slow for all says nothing of a variant.
func TestRatiosAreOfTheSameSeed(t *testing.T) {
	t.Parallel()
	stock := []Result{{Seed: 1, Mean: 10}, {Seed: 2, Mean: 1000}, {Seed: 3, Mean: 30}}
	ours := []Result{{Seed: 2, Mean: 500}, {Seed: 1, Mean: 5}}
	if got := against(ours, stock); got != "0.50 ×" {
		t.Errorf("against = %q, want 0.50 ×", got)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	results := []Result{
		{Scenario: "burst", Seed: 1, Variant: "stock", Mean: 10, P95: 20, Bytes: 3e6, Hottest: 0.5},
		{Scenario: "burst", Seed: 1, Variant: "edgecache", Mean: 4, P95: 6, Bytes: 1e6, Hottest: 0.25},
	}
	if err := table(&out, results); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	if want := "| edgecache | 1 | 4.0 (4.0–4.0) | 0.40 × | 6.0 (6.0–6.0) | 1 (1–1) | 25 (25–25) |"; !strings.Contains(got, want) {
		t.Errorf("the table has no row\n%s\nit is\n%s", want, got)
	}
}

// TestEachVariantIsAProfile: the scheduler's own check of the configuration is in the study itself, which starts it.
func TestEachVariantIsAProfile(t *testing.T) {
	t.Parallel()
	config := schedulerConfig("kubeconfig", variants())
	for _, v := range variants() {
		if strings.Count(config, "schedulerName: "+v.name+"\n") != 1 {
			t.Errorf("variant %s has no profile of its own", v.name)
		}
	}
	if _, err := pick("variant", "stock,nothing", variants(), func(v variant) string { return v.name }); err == nil || !strings.Contains(err.Error(), "no-layers") {
		t.Errorf("an unknown variant gives %v, want an error that names the known ones", err)
	}
}
