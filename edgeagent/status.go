package edgeagent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/clock"
)

var (
	errNotRead   = errors.New("the store has not been read yet")
	errNotLooked = errors.New("the container runtime has not answered yet")
	errNoWish    = errors.New("nobody has said yet what this node should hold")
)

// view is how things stand, as the loop last said it. It does not change any more.
type view struct {
	status   local.Status
	meters   map[string]*meter    // of running attempts, by image
	next     map[string]time.Time // when an image is tried again
	counters counters
}

// counters count since the start. The loop owns them.
type counters struct {
	fetched  int64 // by attempts that have ended
	attempts map[string]int64
	passes   int64
}

// ended counts an attempt that has ended; one that was told to stop is none.
func (c *counters) ended(t *attempt) {
	c.fetched += t.meter.brought()
	switch {
	case t.err == nil:
		c.attempts[local.Succeeded]++
	case !errors.Is(t.err, context.Canceled):
		c.attempts[string(runtime.ReasonOf(t.err))]++
	}
}

// Status tells how things stand. It may be called at any time from any goroutine, and
// waits for nothing.
func (a *Agent) Status() local.Status {
	now := time.Now()
	s := local.Status{Schema: local.Schema, Source: local.FromMemory, ClockNotSet: !clock.IsSet(now)}
	v := a.view.Load()
	if v == nil {
		s.Time = metav1.NewTime(now)
		return s // the store is being read
	}
	s = v.status
	s.ClockNotSet = !clock.IsSet(now)
	s.Time, s.UptimeSeconds = metav1.NewTime(now), now.Sub(a.began).Seconds()
	s.Images = slices.Clone(s.Images)
	for i := range s.Images {
		v.live(&s.Images[i], now)
	}
	s.Counters = v.count()
	s.Count()
	return s
}

// live adds what moves while the loop waits.
func (v *view) live(img *local.Image, now time.Time) {
	if m := v.meters[img.Name]; m != nil && img.Phase == v1alpha1.PhasePulling {
		img.BytesPulled = max(img.BytesPulled, m.now())
		img.Rate(m.rate(now))
	}
	next, planned := v.next[img.Name]
	if planned && (img.Phase == v1alpha1.PhaseFailed || img.Phase == v1alpha1.PhasePending) {
		img.RetryIn(next.Sub(now))
	}
	if img.Phase == v1alpha1.PhasePending && img.Message == "" {
		img.Message = whyPending(img, planned)
	}
}

// whyPending says what an image waits for that has not failed.
func whyPending(img *local.Image, planned bool) string {
	switch {
	case img.Digest == "":
		return "waits to hear which digest the tag stands for"
	case planned:
		return "waits for its next attempt"
	}
	return "waits for its turn"
}

func (v *view) count() local.Counters {
	c := local.Counters{BytesFetched: v.counters.fetched, Attempts: v.counters.attempts, Passes: v.counters.passes}
	for _, m := range v.meters {
		c.BytesFetched += m.brought()
	}
	return c
}

// publish has a status told from now on.
func (a *Agent) publish(source string, status *v1alpha1.NodeImageCacheStatus) {
	v := &view{meters: map[string]*meter{}, next: map[string]time.Time{}, counters: a.counters}
	v.counters.attempts = maps.Clone(a.counters.attempts)
	for name, t := range a.attempts {
		if t.cancel != nil {
			v.meters[name] = t.meter
		} else if !t.next.IsZero() {
			v.next[name] = t.next
		}
	}
	for name, q := range a.inquiries {
		if q.cancel == nil && !q.next.IsZero() {
			v.next[name] = q.next
		}
	}
	v.status = document(source, wishHeard(a.desired), status)
	if err := a.trouble.now[withRuntime].err; err != nil {
		v.status.Runtime.Error = err.Error()
	}
	a.view.Store(v)
}

// wishHeard says whether somebody has said what this node should hold: an object that the
// controller has just made says nothing.
func wishHeard(d store.Desired) bool {
	return d.UID != "" && (d.Known || len(d.Spec.Images)+len(d.Held) > 0)
}

// document makes what is told on the node of what is reported.
func document(source string, wishHeard bool, status *v1alpha1.NodeImageCacheStatus) local.Status {
	s := local.Status{
		Schema: local.Schema, Source: source, WishHeard: wishHeard, AgentVersion: status.AgentVersion, BootID: status.BootID,
		ObservedGeneration: status.ObservedGeneration, Images: make([]local.Image, 0, len(status.Images)),
		Runtime: local.Runtime{RuntimeInfo: status.Runtime}, Platform: status.Platform, Disk: status.Disk,
		Links: status.Registries, Conditions: status.Conditions,
	}
	for i := range status.Images {
		s.Images = append(s.Images, local.Image{NodeImageStatus: status.Images[i]})
	}
	return s
}

// StatusOf tells what a store remembers whose agent does not run.
func StatusOf(desired store.Desired, ledger map[string]store.Entry) local.Status {
	status := remembered(desired, ledger, report.Node{}, "")
	s := document(local.FromMemory, wishHeard(desired), &status)
	s.Time = metav1.Now()
	s.ClockNotSet = !clock.IsSet(s.Time.Time)
	s.Count()
	return s
}

// publishRemembered tells what the store says, while the runtime has not been looked at
// with the present wish.
func (a *Agent) publishRemembered() {
	s := remembered(a.desired, a.ledger, report.Node{
		Runtime: a.info, BootID: a.options.BootID, AgentVersion: a.options.Version, Key: a.key(),
	}, a.trouble.String())
	a.publish(local.FromMemory, &s)
}

// remembered is the status that wish and ledger alone give: what was there when the agent
// last knew is taken to be there.
func remembered(desired store.Desired, ledger map[string]store.Entry, node report.Node, trouble string) v1alpha1.NodeImageCacheStatus {
	steps := plan.Next(plan.Input{Desired: desired, Ledger: ledger, Inventory: inventoryOf(desired, ledger), UseUnknown: true})
	return report.Build(report.State{
		Generation: desired.Generation, WishUnknown: !desired.Known, Unseen: true,
		Steps: steps, Ledger: ledger, Inventory: inventoryOf(desired, ledger), Node: node, Trouble: trouble,
	}, nil)
}

// inventoryOf is what the runtime held, going by the ledger, with the sizes of the wish.
func inventoryOf(desired store.Desired, ledger map[string]store.Entry) runtime.Inventory {
	inventory := runtime.Inventory{}
	for name, e := range ledger {
		ref, err := imageref.Parse(name)
		if err != nil || e.Digest == "" {
			continue
		}
		inventory[ref] = runtime.Held{Digest: digest.Digest(e.Digest), Complete: true}
	}
	for i := range desired.Spec.Images {
		img := &desired.Spec.Images[i]
		ref, err := imageref.Parse(img.Name)
		if h, ok := inventory[ref]; err == nil && ok && h.Digest.String() == img.Digest {
			h.Size = img.Size
			inventory[ref] = h
		}
	}
	return inventory
}

// Health says why the agent should be started again: its loop does not turn. It does not
// depend on any network or on the runtime.
func (a *Agent) Health() error { return a.pulse.err() }

// Ready says why the agent cannot do its work yet, nil once store and runtime were read and
// it is known what to hold.
func (a *Agent) Ready() error {
	switch v := a.view.Load(); {
	case v == nil:
		return errNotRead
	case v.status.Runtime.Name == "":
		return errNotLooked
	case !v.status.WishHeard:
		return errNoWish
	}
	return nil
}
