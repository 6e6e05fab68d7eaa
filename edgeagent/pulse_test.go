package edgeagent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPulse: only a turn that does not end is unhealthy.
func TestPulse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pulse
		well := func(what string) {
			t.Helper()
			if err := p.err(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		time.Sleep(time.Hour)
		well("before the first turn")
		end := p.turn()
		inner := p.turn()
		back := p.away()
		time.Sleep(time.Hour)
		well("while the runtime hangs")
		back()
		well("when the runtime has answered")
		inner()
		time.Sleep(stuckAfter)
		if err := p.err(); err == nil || !strings.Contains(err.Error(), "in one turn for 5m0s") {
			t.Errorf("a turn without an end: %v", err)
		}
		end()
		time.Sleep(time.Hour)
		well("while the loop waits")
	})
}

// TestHealthDoesNotDependOnTheRuntime: a runtime whose calls hang leaves the agent healthy,
// and a store that does not take a write for ever does not.
func TestHealthDoesNotDependOnTheRuntime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.with(func() { b.driver.hangs = true })
		time.Sleep(time.Hour)
		if err := b.agent.Health(); err != nil {
			t.Error(err)
		}
		if err := b.agent.Ready(); err == nil || !strings.Contains(err.Error(), "runtime has not answered") {
			t.Errorf("ready: %v", err)
		}
		b.driver.with(func() { b.driver.hangs = false })
		time.Sleep(2 * callTimeout)
		if err := b.agent.Ready(); !errors.Is(err, errNoWish) {
			t.Errorf("ready once the runtime answers, and nobody has said what to hold: %v", err)
		}
		stuck := make(chan struct{})
		b.disk.hold(stuck)
		b.wish(1, images(image("r.io/app:v1", d1)))
		time.Sleep(stuckAfter + time.Second)
		if b.agent.Health() == nil {
			t.Error("healthy while a write hangs")
		}
		close(stuck)
		time.Sleep(time.Minute)
		if err := b.agent.Health(); err != nil {
			t.Error(err)
		}
		b.stop()
	})
}
