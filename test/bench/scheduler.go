package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"edgecache.dev/test/lab/toolchain"
)

// schedperfDir is the module with scheduler_perf, below the repository's root.
const schedperfDir = "test/bench/schedperf"

// schedulerRuns says how scheduler_perf is run.
type schedulerRuns struct {
	pairs    int
	workload string
}

func parseScheduler(args []string) (schedulerRuns, error) {
	var s schedulerRuns
	flags := pflag.NewFlagSet("bench scheduler", pflag.ContinueOnError)
	flags.IntVar(&s.pairs, "pairs", 5, "how often it is run with and without the plugin")
	flags.StringVar(&s.workload, "workload", "performance", "performance (5,000 nodes) or small (100, to try it out)")
	return s, flags.Parse(args)
}

// perfFigures are what test/bench/schedperf writes of one run.
type perfFigures struct {
	Pods                                                         int
	ProcessSeconds, SchedulerSeconds, PluginSeconds, WallSeconds float64
}

// perPod are milliseconds of CPU time for each scheduled pod.
func (f perfFigures) perPod(seconds float64) float64 { return 1000 * seconds / float64(f.Pods) }

// perfPair is a run without the plugin and the one with it that followed.
type perfPair struct{ bare, plugin perfFigures }

// benchScheduler measures what the plugin costs a scheduler, and prints the table of docs/benchmarks.md.
func benchScheduler(ctx context.Context, s schedulerRuns, out io.Writer) error {
	perf, err := buildSchedperf(ctx)
	if err != nil {
		return err
	}
	var pairs []perfPair
	for i := range s.pairs {
		pair, err := perf.pair(ctx, s.workload, i%2 == 1)
		if err != nil {
			return errors.Join(err, pairTable(out, pairs))
		}
		pairs = append(pairs, pair)
		fmt.Fprintf(os.Stderr, "pair %d of %d: without %+v, with %+v\n", i+1, s.pairs, pair.bare, pair.plugin)
	}
	return pairTable(out, pairs)
}

// schedperf is the built test program.
type schedperf struct {
	tools   *toolchain.Toolchain
	program string
	dir     string // for what it writes
	modules string // the module cache
}

func buildSchedperf(ctx context.Context) (*schedperf, error) {
	tools, err := toolchain.Here(os.Stderr)
	if err != nil {
		return nil, err
	}
	if err := tools.Lab(ctx, "etcd"); err != nil {
		return nil, err
	}
	modules, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("asking for the module cache: %w", err)
	}
	dir, err := os.MkdirTemp("", "schedperf")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	p := &schedperf{tools: tools, dir: dir, program: filepath.Join(dir, "schedperf.test"), modules: strings.TrimSpace(string(modules))}
	fmt.Fprintln(os.Stderr, "Building scheduler_perf (a quarter of an hour the first time)…")
	// As the lab builds Kubernetes, so that most of it is built already.
	build := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-o", p.program, ".")
	build.Dir, build.Env = filepath.Join(tools.Root(), schedperfDir), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building scheduler_perf: %w", err)
	}
	return p, nil
}

// pair runs both variants, each as a process of its own; every second pair the other way round.
func (p *schedperf) pair(ctx context.Context, workload string, reversed bool) (pair perfPair, err error) {
	order := []string{"bare", "plugin"}
	if reversed {
		slices.Reverse(order)
	}
	for _, variant := range order {
		f, err := p.run(ctx, variant, workload)
		if err != nil {
			return pair, err
		}
		if variant == "bare" {
			pair.bare = f
		} else {
			pair.plugin = f
		}
	}
	return pair, nil
}

func (p *schedperf) run(ctx context.Context, variant, workload string) (f perfFigures, err error) {
	figures, log := filepath.Join(p.dir, "figures.json"), filepath.Join(p.dir, variant+".log")
	output, err := os.Create(log)
	if err != nil {
		return f, fmt.Errorf("making a log: %w", err)
	}
	defer func() { err = errors.Join(err, output.Close()) }()
	run := exec.CommandContext(ctx, p.program, "-test.run=^$", "-test.bench=Scheduler/^"+variant+"$/", "-test.benchtime=1x",
		"-perf-scheduling-label-filter="+workload, "-data-items-dir="+p.dir)
	run.Dir = filepath.Join(p.tools.Root(), schedperfDir)
	run.Env = append(os.Environ(), "PATH="+p.tools.Bin()+":"+os.Getenv("PATH"), "KUBE_CACHE_MUTATION_DETECTOR=false",
		"SCHEDPERF_FIGURES="+figures, "ARTIFACTS="+p.dir,
		// Kubernetes finds its own files from these two where paths are trimmed.
		"TEST_SRCDIR="+filepath.Dir(p.modules), "TEST_WORKSPACE="+filepath.Base(p.modules))
	run.Stdout, run.Stderr = output, output
	if err := run.Run(); err != nil {
		return f, fmt.Errorf("running scheduler_perf, variant %s (log: %s): %w", variant, log, err)
	}
	text, err := os.ReadFile(figures)
	if err != nil {
		return f, fmt.Errorf("reading figures: %w", err)
	}
	return f, errors.Join(json.Unmarshal(text, &f), os.Remove(figures))
}

// pairTable prints medians over the pairs, and what lies between the least and the most.
func pairTable(out io.Writer, pairs []perfPair) error {
	if len(pairs) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "| CPU time per pod, %d pairs, ms\t| without the plugin\t| with it\t| ratio\t|\n|---\t|---\t|---\t|---\t|\n", len(pairs))
	for _, line := range []struct {
		what string
		of   func(perfFigures) float64
	}{
		{"the whole process: API server, scheduler, test", func(f perfFigures) float64 { return f.perPod(f.ProcessSeconds) }},
		{"what of it is the scheduler", func(f perfFigures) float64 { return f.perPod(f.SchedulerSeconds) }},
		{"what of that is the plugin", func(f perfFigures) float64 { return f.perPod(f.PluginSeconds) }},
	} {
		var bare, plugin, ratios []float64
		for _, p := range pairs {
			b, q := line.of(p.bare), line.of(p.plugin)
			bare, plugin = append(bare, b), append(plugin, q)
			if b > 0 {
				ratios = append(ratios, q/b)
			}
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t|\n", line.what, medianOf(bare), medianOf(plugin), medianOf(ratios))
	}
	return w.Flush()
}

// medianOf is "median (least–most)".
func medianOf(all []float64) string {
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	middle := (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	return fmt.Sprintf("%.3f (%.3f–%.3f)", middle, all[0], all[len(all)-1])
}
