package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"edgecache.dev/test/fleet/scenario"
	"edgecache.dev/test/lab/cluster"
)

const testNodes, testImages = 30, 4

// TestScenarios plays all scenarios on small fleets, several in one world. Play itself checks
// that each ends as it should; here is what it may cost at most, where that does not depend on
// how fast the machine is. The worlds mostly wait, so that all of them run at once.
func TestScenarios(t *testing.T) {
	t.Parallel()
	groups := [][]string{{"slow", "edit"}, {"refresh", "purge"}, {"offline", "reconnect"}, {"apply", "restart", "gone"}}
	if diff := slices.Sorted(slices.Values(slices.Concat(groups...))); !slices.Equal(diff, slices.Sorted(slices.Values(scenario.Names()))) {
		t.Errorf("played are %v, want %v", diff, scenario.Names())
	}
	var wg sync.WaitGroup
	for _, names := range groups {
		wg.Go(func() {
			if err := playGroup(t, names); err != nil {
				t.Errorf("world of %v: %v", names, err)
			}
		})
	}
	wg.Wait()
}

func playGroup(t *testing.T, names []string) (err error) {
	t.Helper()
	ctx := t.Context()
	lab, err := cluster.Start(ctx, scenario.LabOptions(t.Output()))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			t.Log(lab.LogTails(20))
		}
		err = errors.Join(err, lab.Close())
	}()
	w, err := scenario.New(ctx, lab, scenario.Setting{
		Nodes: testNodes, Agents: true, Pull: 100 * time.Millisecond, SlowPull: time.Second / 2,
		Kills: 3, Refreshes: 2, RefreshEvery: 10 * time.Second, Outage: 2 * time.Second,
		Patience: 2 * time.Minute, Seed: 1, Out: t.Output(),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, name := range names {
		if err := playOne(ctx, t, w, name); err != nil {
			return err
		}
	}
	return nil
}

func playOne(ctx context.Context, t *testing.T, w *scenario.World, name string) error {
	t.Helper()
	s, err := scenario.Find(name)
	if err != nil {
		return err
	}
	f, err := w.Play(ctx, s, testImages)
	if err != nil {
		return err
	}
	t.Logf("%+v", *f)
	// A change is one write per node, and what it leaves to be removed another one when it is
	// gone. A write that was refused, as the agent wrote meanwhile, is done again.
	most := map[string]int{"edit": 2, "purge": 2, "restart": 2, "refresh": 0, "reconnect": 0}
	limit, limited := most[name]
	if !limited {
		limit = 1
	}
	if n := f.SpecWrites() - f.Refused; n > limit*testNodes {
		err = fmt.Errorf("scenario %s: specs of %d nodes were written %d times, at most %d each is right", name, testNodes, n, limit)
	}
	if n := f.Total() + f.WritesAfter; name == "refresh" && n > 0 {
		err = fmt.Errorf("nothing was to do, and there were %d writes: %v", n, f.Writes)
	}
	return err
}
