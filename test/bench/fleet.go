package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"edgecache.dev/test/fleet/scenario"
	"edgecache.dev/test/lab/cluster"
)

// fleetSize says how large the fleets are.
type fleetSize struct {
	nodes, images         int
	specNodes, specImages int
	kills                 int
}

func parseFleet(args []string) (fleetSize, error) {
	var s fleetSize
	flags := flag.NewFlagSet("bench fleet", flag.ContinueOnError)
	flags.IntVar(&s.nodes, "nodes", 1000, "nodes with agents; 0 leaves them out")
	flags.IntVar(&s.images, "images", 10, "images that they hold; in one scenario, five times as many")
	flags.IntVar(&s.specNodes, "spec-nodes", 10_000, "nodes without agents, whose specs are written; 0 leaves that out")
	flags.IntVar(&s.specImages, "spec-images", 50, "images in their specs")
	flags.IntVar(&s.kills, "kills", 20, "how often the controller is killed in a rollout")
	return s, flags.Parse(args)
}

// fleet measures what a fleet costs the API server and the controller.
func fleet(ctx context.Context, s fleetSize) ([]row, error) {
	var rows []row
	var err error
	if s.nodes > 0 {
		rows, err = withAgents(ctx, s)
	}
	if err != nil || s.specNodes == 0 {
		return rows, err
	}
	more, err := withoutAgents(ctx, s)
	return append(rows, more...), err
}

// fleetPatience bounds each wait: a rollout over slow links to many nodes on two cores.
const fleetPatience = 30 * time.Minute

func newWorld(ctx context.Context, s scenario.Setting) (_ *scenario.World, closing func() error, err error) {
	lab, err := cluster.Start(ctx, scenario.LabOptions(os.Stderr))
	if err != nil {
		return nil, nil, err
	}
	s.Patience, s.Seed, s.Out = fleetPatience, 1, os.Stderr
	w, err := scenario.New(ctx, lab, s)
	if err != nil {
		return nil, nil, errors.Join(err, lab.Close())
	}
	return w, func() error { return errors.Join(w.Close(), lab.Close()) }, nil
}

// judge makes the row of a scenario.
type judge func(*scenario.Figures) row

func withAgents(ctx context.Context, s fleetSize) (rows []row, err error) {
	w, closing, err := newWorld(ctx, scenario.Setting{
		Nodes: s.nodes, Agents: true, Pull: time.Second, SlowPull: 20 * time.Second,
		Kills: s.kills, Refreshes: 10, RefreshEvery: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closing()) }()
	for _, play := range []struct {
		name   string
		images int
		judge  judge
	}{
		{"apply", s.images, writesPerPair}, {"slow", s.images, writesPerPair}, {"restart", s.images, underKills},
		{"refresh", s.images, idle}, {"edit", 5 * s.images, edited},
	} {
		table, err := scenario.Find(play.name)
		if err != nil {
			return rows, err
		}
		f, err := w.Play(ctx, table, play.images)
		if err != nil {
			return rows, err
		}
		rows = append(rows, play.judge(f))
	}
	return rows, nil
}

func writesPerPair(f *scenario.Figures) row {
	what := map[string]string{"apply": "apply to Ready", "slow": "the same, private images over slow links that break"}[f.Scenario]
	return row{
		fmt.Sprintf("API writes per node and image, %s (%d × %d)", what, f.Nodes, f.Images), fmt.Sprintf("%.2f", f.WritesPerPair),
		fmt.Sprintf("kube-fledged: %.1f", fledgedWrites), fmt.Sprintf("%.3f", f.WritesPerPair/fledgedWrites),
	}
}

func underKills(f *scenario.Figures) row {
	pairs := f.Nodes * (f.Images + 1) // one image is added on the way
	return row{
		fmt.Sprintf("pulls in a rollout in which the controller is %s (%d × %d)", strings.Join(f.Notes, ", "), f.Nodes, f.Images+1),
		strconv.Itoa(f.Pulls), fmt.Sprintf("pulls that were needed: %d", pairs), fmt.Sprintf("%.3f", float64(f.Pulls)/float64(pairs)),
	}
}

func idle(f *scenario.Figures) row {
	return row{
		fmt.Sprintf("API writes in 10 refreshes that find nothing new (%d × %d)", f.Nodes, f.Images),
		strconv.Itoa(f.Total() + f.WritesAfter), "none are needed", "",
	}
}

func edited(f *scenario.Figures) row {
	return row{
		fmt.Sprintf("pulls per node when one of %d images is edited (%d nodes)", f.Images, f.Nodes),
		fmt.Sprintf("%.2f", float64(f.Pulls)/float64(f.Nodes)), "pulls that are needed: 1", fmt.Sprintf("%.2f", float64(f.Pulls)/float64(f.Nodes)),
	}
}

func withoutAgents(ctx context.Context, s fleetSize) (rows []row, err error) {
	w, closing, err := newWorld(ctx, scenario.Setting{
		Nodes: s.specNodes,
		// The API server is to be the limit, for the controller as for the bare client.
		ControllerArgs: []string{"--kube-api-qps=10000", "--kube-api-burst=10000"},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closing()) }()
	f, err := w.PlaySpecs(ctx, s.specImages)
	if err != nil {
		return nil, err
	}
	const allowed = 600 << 20
	return []row{{
		fmt.Sprintf("writing all specs (%d × %d), the last one %.0f s after the apply", f.Nodes, f.Images, f.Apply.Seconds()),
		fmt.Sprintf("%.0f s", f.Writing.Seconds()), fmt.Sprintf("a bare client that creates the same objects: %.0f s", f.Bare.Seconds()),
		fmt.Sprintf("%.2f", f.Writing.Seconds()/f.Bare.Seconds()),
	}, {
		fmt.Sprintf("the controller's peak memory then (objects of %d KB)", f.LargestObjectBytes>>10),
		fmt.Sprintf("%d MB", f.PeakBytes>>20), "what it may have: 600 MB", fmt.Sprintf("%.2f", float64(f.PeakBytes)/allowed),
	}}, nil
}
