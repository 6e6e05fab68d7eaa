package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	groups := [][]string{{"slow", "edit"}, {"refresh"}, {"purge", "gone"}, {"offline", "reconnect"}, {"apply"}}
	played := slices.Sorted(slices.Values(append(slices.Concat(groups...), "restart"))) // has a test of its own
	if !slices.Equal(played, slices.Sorted(slices.Values(scenario.Names()))) {
		t.Errorf("played are %v, want %v", played, scenario.Names())
	}
	var wg sync.WaitGroup
	for _, names := range groups {
		wg.Go(func() {
			if err := playGroup(t, names, testImages, small(t)); err != nil {
				t.Errorf("world of %v: %v", names, err)
			}
		})
	}
	wg.Wait()
}

// TestKilledDuringARollout kills the controller at other points of a rollout to a thousand
// nodes each time. The scenario itself checks that it ends as one without kills, that nothing is brought twice,
// and that no more nodes work at a time than may.
//
// It does not run beside the others: a thousand agents leave little of a small machine.
func TestKilledDuringARollout(t *testing.T) { //nolint:paralleltest // see above
	s := small(t)
	s.Nodes, s.Patience, s.Seed = 1000, 10*time.Minute, rand.Uint64()
	const images = 2
	repeat := fmt.Sprintf("go run ./test/fleet -scenario restart -nodes %d -images %d -kills %d -pull %s -seed %d", s.Nodes, images, s.Kills, s.Pull, s.Seed)
	t.Log("to play it again:", repeat)
	if err := playGroup(t, []string{"restart"}, images, s); err != nil {
		t.Errorf("%v\nto play it again: %s", err, repeat)
	}
}

// small is a small world with short times.
func small(t *testing.T) scenario.Setting {
	t.Helper()
	return scenario.Setting{
		Nodes: testNodes, Agents: true, Pull: 100 * time.Millisecond, SlowPull: time.Second / 2,
		Kills: 3, Refreshes: 3, RefreshEvery: 10 * time.Second, Outage: 2 * time.Second,
		Patience: 2 * time.Minute, Seed: 1, Out: t.Output(),
	}
}

func playGroup(t *testing.T, names []string, images int, setting scenario.Setting) (err error) {
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
	w, err := scenario.New(ctx, lab, setting)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, name := range names {
		if err := playOne(ctx, t, w, name, images); err != nil {
			return err
		}
	}
	return nil
}

func playOne(ctx context.Context, t *testing.T, w *scenario.World, name string, images int) error {
	t.Helper()
	s, err := scenario.Find(name)
	if err != nil {
		return err
	}
	f, err := w.Play(ctx, s, images)
	if err != nil {
		return err
	}
	t.Logf("%+v", *f)
	// A change is one write per node, and what it leaves to be removed another one when it is
	// gone. On a machine that is busy look-ups may end one by one: then each image is a write.
	// A write that was refused, as the agent wrote meanwhile, is done again.
	most := map[string]int{"edit": 3, "purge": 2, "restart": 2, "reconnect": 0}
	limit, limited := most[name]
	if !limited {
		limit = images
	}
	if n := f.SpecWrites() - f.Refused; n > limit*f.Nodes {
		return fmt.Errorf("scenario %s: specs of %d nodes were written %d times, at most %d each is right", name, f.Nodes, n, limit)
	}
	return nil
}
