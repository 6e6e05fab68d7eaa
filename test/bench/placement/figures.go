package placement

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"text/tabwriter"
)

// Result is one run.
type Result struct {
	Scenario string `json:"scenario"`
	Seed     uint64 `json:"seed"`
	Variant  string `json:"variant"`
	// Mean and P95 are seconds from a pod's creation to its readiness.
	Mean float64 `json:"mean"`
	P95  float64 `json:"p95"`
	// Bytes came over the uplinks of all sites.
	Bytes float64 `json:"bytes"`
	// Hottest is the largest share of the run's pods that one node got.
	Hottest float64 `json:"hottest"`
}

func (r *play) result() Result {
	slices.Sort(r.waits)
	sum := 0.0
	for _, w := range r.waits {
		sum += w
	}
	count, most := map[int]int{}, 0
	for _, n := range r.nodeOf {
		count[n]++
		most = max(most, count[n])
	}
	return Result{
		Scenario: r.scenario, Seed: r.seed, Variant: r.variant.name, Mean: sum / float64(len(r.waits)), P95: quantile(r.waits, 0.95),
		Bytes: r.pulls.bytes, Hottest: float64(most) / float64(len(r.waits)),
	}
}

// quantile is the value in sorted figures below which a share of them lies, between two of them in proportion.
func quantile(sorted []float64, share float64) float64 {
	at := share * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// readResults reads what earlier runs wrote; none is no error.
func readResults(path string) ([]Result, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	defer func() { _ = f.Close() }()
	var all []Result
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// table prints a table per scenario: medians over the seeds, and the middle half of them.
func table(out io.Writer, results []Result) error {
	for _, s := range scenarios() {
		if err := scenarioTable(out, s, results); err != nil {
			return err
		}
	}
	return nil
}

func scenarioTable(out io.Writer, s scenario, results []Result) error {
	of := map[string][]Result{}
	for _, r := range results {
		if r.Scenario == s.name {
			of[r.Variant] = append(of[r.Variant], r)
		}
	}
	if len(of) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\n**%s**: %s.\n\n", s.name, s.what)
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| variant\t| seeds\t| mean time to ready, s\t| against stock\t| p95, s\t| over uplinks, MB\t| hottest node, %\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, v := range variants() {
		mine := of[v.name]
		if len(mine) == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s\t| %d\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", v.name, len(mine),
			spread(mine, 1, func(r Result) float64 { return r.Mean }), against(mine, of["stock"]),
			spread(mine, 1, func(r Result) float64 { return r.P95 }),
			spread(mine, 0, func(r Result) float64 { return r.Bytes / megabyte }),
			spread(mine, 0, func(r Result) float64 { return 100 * r.Hottest }))
	}
	return w.Flush()
}

// spread is the median, and the quartiles.
func spread(of []Result, digits int, figure func(Result) float64) string {
	var all []float64
	for _, r := range of {
		all = append(all, figure(r))
	}
	slices.Sort(all)
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, quantile(all, 0.5), digits, quantile(all, 0.25), digits, quantile(all, 0.75))
}

// against is the median, over the seeds, of the mean time as a multiple of stock's with the same seed.
func against(of, stock []Result) string {
	var ratios []float64
	for _, r := range of {
		for _, s := range stock {
			if s.Seed == r.Seed {
				ratios = append(ratios, r.Mean/s.Mean)
			}
		}
	}
	if len(ratios) == 0 {
		return ""
	}
	slices.Sort(ratios)
	return fmt.Sprintf("%.2f ×", quantile(ratios, 0.5))
}
