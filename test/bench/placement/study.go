package placement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"
)

// Study says what is run. Empty lists are all.
type Study struct {
	Scenarios, Variants string
	// Seeds is how many there are, from First on.
	Seeds, First uint64
	// Results is the file that each run is added to; runs that stand there are not made again. Empty is none.
	Results string
	// TableOnly makes no runs.
	TableOnly bool
}

// Parse reads the command line.
func Parse(args []string) (Study, error) {
	var s Study
	flags := pflag.NewFlagSet("bench placement", pflag.ContinueOnError)
	flags.StringVar(&s.Scenarios, "scenarios", "", "comma-separated; all if empty")
	flags.StringVar(&s.Variants, "variants", "", "comma-separated; all if empty")
	flags.Uint64Var(&s.Seeds, "seeds", 20, "how many seeds")
	flags.Uint64Var(&s.First, "first-seed", 1, "the first of them; docs/placement-study.md reports 1 to 20, 1001 and up are for tuning")
	flags.StringVar(&s.Results, "results", "", "file of JSON lines that results are added to; what stands there is not run again")
	flags.BoolVar(&s.TableOnly, "table", false, "print the table of --results, without running anything")
	return s, flags.Parse(args)
}

// job is one run to make.
type job struct {
	scenario scenario
	seed     uint64
	variant  variant
}

// Run runs the study and prints its tables to out, in the form of docs/placement-study.md.
func Run(ctx context.Context, s Study, out io.Writer) (err error) {
	results, err := readResults(s.Results)
	if err != nil {
		return err
	}
	jobs, err := s.jobs(results)
	if err != nil {
		return err
	}
	if len(jobs) > 0 && !s.TableOnly {
		more, err := runAll(ctx, s, jobs)
		results = append(results, more...)
		if err != nil {
			return errors.Join(err, table(out, results))
		}
	}
	return table(out, results)
}

// jobs are the runs that are not made yet, those of a seed side by side: so little is written between them.
func (s Study) jobs(results []Result) ([]job, error) {
	played, err := pick("scenario", s.Scenarios, scenarios(), func(s scenario) string { return s.name })
	if err != nil {
		return nil, err
	}
	compared, err := pick("variant", s.Variants, variants(), func(v variant) string { return v.name })
	if err != nil {
		return nil, err
	}
	var jobs []job
	for seed := s.First; seed < s.First+s.Seeds; seed++ {
		for _, c := range played {
			for _, v := range compared {
				made := func(r Result) bool { return r.Scenario == c.name && r.Seed == seed && r.Variant == v.name }
				if !slices.ContainsFunc(results, made) {
					jobs = append(jobs, job{c, seed, v})
				}
			}
		}
	}
	return jobs, nil
}

func runAll(ctx context.Context, s Study, jobs []job) (results []Result, err error) {
	w, err := newWorld(ctx, variants())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	begin := time.Now()
	for i, j := range jobs {
		r := newPlay(w, newPlan(j.scenario, j.seed), j.variant, fmt.Sprintf("r%d", i))
		if err := r.run(ctx); err != nil {
			return results, fmt.Errorf("scenario %s, seed %d, variant %s: %w", j.scenario.name, j.seed, j.variant.name, err)
		}
		result := r.result()
		results = append(results, result)
		if err := s.note(result); err != nil {
			return results, err
		}
		fmt.Fprintf(os.Stderr, "%6.1fs  %d of %d: %s, seed %d, %s: mean %.1f s\n", time.Since(begin).Seconds(), i+1, len(jobs),
			result.Scenario, result.Seed, result.Variant, result.Mean)
	}
	return results, nil
}

// note adds a result to the file.
func (s Study) note(r Result) error {
	if s.Results == "" {
		return nil
	}
	f, err := os.OpenFile(s.Results, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("writing results: %w", err)
	}
	return errors.Join(json.NewEncoder(f).Encode(r), f.Close())
}
