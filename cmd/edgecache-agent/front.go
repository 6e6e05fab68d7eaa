package main

import (
	"errors"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/version"

	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/clock"
)

var errNoRuntime = errors.New("no container runtime has been found yet")

// stance says how the agent stands.
type stance interface {
	Status() local.Status
	Health() error
	Ready() error
}

// front is who answers: the agent, and until there is one somebody who waits for its
// runtime. A probe that nobody answers would have the program killed for its waiting.
type front struct{ now atomic.Pointer[stance] }

func newFront(s stance) *front {
	f := &front{}
	f.put(s)
	return f
}

func (f *front) put(s stance)         { f.now.Store(&s) }
func (f *front) Status() local.Status { return (*f.now.Load()).Status() }
func (f *front) Health() error        { return (*f.now.Load()).Health() }
func (f *front) Ready() error         { return (*f.now.Load()).Ready() }

// waiting is how things stand while there is no runtime: as the store has them.
type waiting struct {
	began      time.Time
	remembered local.Status
	why        atomic.Pointer[error] // there is none
}

func newWaiting(memory *store.Store) (*waiting, error) {
	desired, _, err := memory.Desired()
	if err != nil {
		return nil, err
	}
	ledger, err := memory.Ledger()
	if err != nil {
		return nil, err
	}
	w := &waiting{began: time.Now(), remembered: edgeagent.StatusOf(desired, ledger)}
	w.remembered.AgentVersion, w.remembered.BootID = version.Get().GitVersion, bootID()
	w.fails(errNoRuntime)
	return w, nil
}

// fails has told why there is no runtime.
func (w *waiting) fails(why error) { w.why.Store(&why) }

// Status tells what the store remembers.
func (w *waiting) Status() local.Status {
	s, now := w.remembered, time.Now()
	s.Runtime.Error = (*w.why.Load()).Error()
	s.Time, s.UptimeSeconds, s.ClockNotSet = metav1.NewTime(now), now.Sub(w.began).Seconds(), !clock.IsSet(now)
	return s
}

// Health is well: to wait is no reason to be started anew.
func (w *waiting) Health() error { return nil }

// Ready says what is waited for.
func (w *waiting) Ready() error { return *w.why.Load() }
