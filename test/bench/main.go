// Command bench measures what docs/benchmarks.md lists. Figures are ratios of two things
// measured in one run on one machine; nothing here passes or fails.
//
//	go run ./test/bench                               all but fleets: an hour
//	go run ./test/bench writes                        what is written to the API server: a minute
//	go run ./test/bench badlink                       pulls over links that fail: half an hour
//	go run ./test/bench fleet                         fleets as in docs/benchmarks.md: an hour
//	go run ./test/bench fleet --nodes 100 --images 10 --spec-nodes 0
//	go run ./test/bench idle --window 60s             an agent that has nothing to do
//	go run ./test/bench placement                     pods on made-up fleets, as docs/placement-study.md describes: an hour
//	go run ./test/bench scheduler                     what the plugin costs a scheduler of 5,000 nodes: half an hour
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"edgecache.dev/test/bench/placement"
	"edgecache.dev/test/lab/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := start(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// row is one line of the table.
type row struct {
	what, ours, against, ratio string
}

func start(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return run(ctx, os.Stdout)
	}
	switch args[0] {
	case "placement":
		study, err := placement.Parse(args[1:])
		if err != nil {
			return err
		}
		return placement.Run(ctx, study, os.Stdout)
	case "scheduler":
		runs, err := parseScheduler(args[1:])
		if err != nil {
			return err
		}
		return benchScheduler(ctx, runs, os.Stdout)
	}
	rows, err := one(ctx, args[0], args[1:])
	if err != nil {
		return err
	}
	return table(os.Stdout, rows)
}

// one runs one benchmark by its name.
func one(ctx context.Context, name string, args []string) ([]row, error) {
	switch name {
	case "writes":
		return apiWrites(ctx)
	case "badlink":
		return badLinkIfAble(ctx, os.Stdout)
	case "fleet":
		size, err := parseFleet(args)
		if err != nil {
			return nil, err
		}
		return fleet(ctx, size)
	case "idle":
		window, err := parseIdle(args)
		if err != nil {
			return nil, err
		}
		return idleAgent(ctx, window)
	}
	return nil, fmt.Errorf("%q is unknown; known are writes, badlink, fleet, idle, placement and scheduler", name)
}

func run(ctx context.Context, out io.Writer) error {
	var rows []row
	fmt.Fprintln(os.Stderr, "API writes from apply to Ready…")
	found, err := apiWrites(ctx)
	if err != nil {
		return err
	}
	rows = append(rows, found...)
	for _, able := range []func(context.Context, io.Writer) ([]row, error){badLinkIfAble, idleIfAble} {
		if found, err = able(ctx, out); err != nil {
			return err
		}
		rows = append(rows, found...)
	}
	return table(out, rows)
}

// badLinkIfAble says why where this machine cannot.
func badLinkIfAble(ctx context.Context, out io.Writer) ([]row, error) {
	if missing := cluster.Probe().Err(); missing != nil {
		fmt.Fprintln(out, "left out: pulls over a bad link, on real containerd:", missing)
		return nil, nil
	}
	fmt.Fprintln(os.Stderr, "Pulls over a bad link, on real containerd (half an hour)…")
	return badLink(ctx)
}

func table(out io.Writer, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| what\t| edgecache\t| against\t| ratio\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|")
	for _, r := range rows {
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t|\n", r.what, r.ours, r.against, r.ratio)
	}
	return w.Flush()
}
