// Command fleet plays what happens to a fleet of many nodes on one small machine, and prints
// what it cost the API server and the controller.
//
//	go run ./test/fleet -scenario apply -nodes 1000 -images 10 -o json
//
// It owns the command line; what is played is package scenario's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"edgecache.dev/test/fleet/scenario"
	"edgecache.dev/test/lab/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

// order is what the command line asks for.
type order struct {
	scenarios string
	output    string
	images    int
	logs      string
	setting   scenario.Setting
}

func parse(args []string) (order, error) {
	o := order{setting: scenario.Setting{Agents: true, Out: os.Stderr}}
	s := &o.setting
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	flags.StringVar(&o.scenarios, "scenario", "all", "scenarios, separated by commas: "+strings.Join(scenario.Names(), ", ")+", or all")
	flags.StringVar(&o.output, "o", "table", "table or json")
	flags.IntVar(&o.images, "images", 10, "images that every node is to hold")
	flags.StringVar(&o.logs, "logs", "", "folder that keeps the programs' logs")
	flags.IntVar(&s.Nodes, "nodes", 100, "nodes")
	flags.DurationVar(&s.Pull, "pull", time.Second, "time for an image of median size on a median node")
	flags.DurationVar(&s.SlowPull, "slow-pull", 20*time.Second, "the same over slow links")
	flags.IntVar(&s.Kills, "kills", 20, "how often the controller is killed")
	flags.IntVar(&s.Refreshes, "refreshes", 10, "how often all tags are looked up again")
	flags.DurationVar(&s.RefreshEvery, "refresh-interval", time.Minute, "time between two of them, at least 10s")
	flags.DurationVar(&s.Outage, "outage", 2*time.Minute, "how long networks and registries are away")
	flags.DurationVar(&s.Patience, "patience", 30*time.Minute, "longest wait for anything")
	flags.Uint64Var(&s.Seed, "seed", 1, "of sizes, links and failures")
	return o, flags.Parse(args)
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	var table []scenario.Scenario
	for name := range strings.SplitSeq(o.scenarios, ",") {
		if name == "all" {
			table = append(table, scenario.Table()...)
			continue
		}
		s, err := scenario.Find(name)
		if err != nil {
			return err
		}
		table = append(table, s)
	}
	figures, err := play(ctx, o, table)
	return errors.Join(err, show(out, o.output, figures))
}

// play plays scenarios one after the other in one world.
func play(ctx context.Context, o order, table []scenario.Scenario) (all []*scenario.Figures, err error) {
	options := scenario.LabOptions(os.Stderr)
	options.LogDir = o.logs
	lab, err := cluster.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	w, err := scenario.New(ctx, lab, o.setting)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, s := range table {
		f, err := w.Play(ctx, s, o.images)
		if err != nil {
			return all, err
		}
		all = append(all, f)
	}
	return all, nil
}

func show(out io.Writer, format string, all []*scenario.Figures) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		for _, f := range all {
			if err := encoder.Encode(f); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\tnodes\timages\twrites\tper pair\trefused\tsettled\tCPU\tpeak\tlargest\tpulls\tnotes")
	for _, f := range all {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.3f\t%d\t%.1fs\t%.1fs\t%d MB\t%d KB\t%d\t%s\n", f.Scenario, f.Nodes, f.Images, f.Total(), f.WritesPerPair,
			f.Refused, f.SettleSeconds, f.ControllerCPUSeconds, f.ControllerPeakBytes>>20, f.LargestObjectBytes>>10, f.Pulls, strings.Join(f.Notes, "; "))
	}
	return w.Flush()
}
