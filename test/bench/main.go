// Command bench measures what docs/benchmarks.md lists. Figures are ratios of two things
// measured in one run on one machine; nothing here passes or fails.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"edgecache.dev/test/lab/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
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

func run(ctx context.Context, out io.Writer) error {
	var rows []row
	fmt.Fprintln(os.Stderr, "API writes from apply to Ready…")
	found, err := apiWrites(ctx)
	if err != nil {
		return err
	}
	rows = append(rows, found...)
	if missing := cluster.Probe().Err(); missing != nil {
		fmt.Fprintln(out, "left out: pulls over a bad link, on real containerd:", missing)
	} else {
		fmt.Fprintln(os.Stderr, "Pulls over a bad link, on real containerd (minutes)…")
		found, err := badLink(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, found...)
	}
	return table(out, rows)
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
