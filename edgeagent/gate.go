package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/window"
)

// Links knows which registries are down, and hears how attempts at them ended.
type Links interface {
	// Down says whether a registry is not to be reached now, and since when.
	Down(registry string) (since time.Time, down bool)
	// Reached and GaveUp hear of attempts that a runtime made by itself.
	Reached(registry string)
	GaveUp(registry string)
	// Await says which registries something waits for; Probes whether those are asked then
	// whether they are back.
	Await(registries []string)
	Probes() bool
	// Registries gives the links for the status.
	Registries() []v1alpha1.RegistryStatus
	// Connected says whether the API server answers.
	Connected() bool
}

// Windows say when images may be pulled.
type Windows interface {
	At(now time.Time) window.Verdict
}

const (
	// scoutEvery is how often one image is tried while its registry is down: that also finds
	// out what a probe does not, and where none is sent.
	scoutEvery = 5 * time.Minute
	// returnSpread and openSpread are within what time attempts begin after their registry
	// is back and after a window opened: other nodes see the same.
	returnSpread, openSpread = 3 * time.Second, 30 * time.Second
)

// errHeld ends an attempt that has to wait. What was fetched stays.
var errHeld = errors.New("held back")

// gate is what keeps images from being brought now, beside their turn.
type gate struct {
	holds   map[string]hold      // by image, as of the last look
	scouted map[string]time.Time // by registry that is down: not tried before
	back    map[string]time.Time // by registry that was down: not tried before
	tried   map[string]bool      // registries that were not down when they were looked at last
	pulls   map[string]bool      // registries that images wait for
	asks    map[string]bool      // registries that questions wait for
	closed  bool                 // no window was open at the last look
	opens   time.Time            // what waited for a window is not tried before
}

func newGate() gate {
	return gate{
		holds: map[string]hold{}, scouted: map[string]time.Time{}, back: map[string]time.Time{}, tried: map[string]bool{},
		pulls: map[string]bool{}, asks: map[string]bool{},
	}
}

// hold is why an image is not brought now.
type hold struct {
	reason, message string
	// until is when that is to be looked at again, zero where it is told.
	until time.Time
	// scout says that one image may be tried all the same.
	scout bool
}

// outsideWindow holds everything while no window is open, and for a moment of chance after.
// It is asked once for all images: windows that follow each other take long to judge.
func (a *Agent) outsideWindow(now time.Time) *hold {
	if a.options.Windows == nil {
		return nil
	}
	v, g := a.options.Windows.At(now), &a.gate
	if !v.Open {
		g.closed = true
		return &hold{reason: v1alpha1.ReasonOutsideWindow, message: v.Message, until: v.Until}
	}
	if g.closed {
		g.closed, g.opens = false, now.Add(rand.N(openSpread))
	}
	if now.Before(g.opens) {
		return &hold{reason: v1alpha1.ReasonOutsideWindow, message: "a pull window has just opened", until: g.opens}
	}
	return nil
}

// closes is when the open window closes for what is missing, zero where nothing does.
func (a *Agent) closes(now time.Time) time.Time {
	if a.options.Windows == nil || len(a.steps.Missing) == 0 {
		return time.Time{}
	}
	return a.options.Windows.At(now).Until
}

// unreachable holds what comes from a registry that is down. What waited for one that is
// back begins at once, all in their order.
func (a *Agent) unreachable(img *plan.Image, t *attempt, now time.Time) *hold {
	registry, g := img.Ref.Registry(), &a.gate
	since, down := a.isDown(registry)
	if !down {
		delete(g.scouted, registry)
		g.tried[registry] = true
		if t.waits {
			t.waits, t.next = false, g.returned(registry, now)
		}
		return nil
	}
	delete(g.back, registry)
	if g.tried[registry] { // it was found to be down just now; what is remembered of it is tried at once
		delete(g.tried, registry)
		g.scout(registry)
	}
	t.waits, g.pulls[registry] = true, true
	at := g.scouted[registry]
	return &hold{
		reason: v1alpha1.ReasonNetworkError, until: at, scout: !now.Before(at),
		message: fmt.Sprintf("%s has not been reached since %s, tried again when it answers", registry, since.UTC().Format(time.RFC3339)),
	}
}

// returned is when what waited for a registry begins: the same time for all of it.
func (g *gate) returned(registry string, now time.Time) time.Time {
	at, known := g.back[registry]
	if !known {
		at = now.Add(rand.N(returnSpread))
		g.back[registry] = at
	}
	return at
}

func (a *Agent) isDown(registry string) (since time.Time, down bool) {
	if a.options.Links == nil {
		return time.Time{}, false
	}
	return a.options.Links.Down(registry)
}

// interrupts says whether a hold ends an attempt that runs. What has all its bytes is only
// unpacked; a runtime that pulls by itself knows best whether its registry is there.
func (a *Agent) interrupts(h *hold, t *attempt) bool {
	size := t.size.Load()
	if size > 0 && t.done.Load() >= size {
		return false
	}
	return h.reason == v1alpha1.ReasonOutsideWindow || !t.scout && a.info.Can(runtime.CanProgress)
}

// mayBeHere says whether an image that waits for its registry was there as it is wished, and
// nobody looked yet whether it can be made whole of what is left of it.
func (a *Agent) mayBeHere(img *plan.Image, t *attempt, h *hold) bool {
	return h.reason == v1alpha1.ReasonNetworkError && !t.begun && a.ledger[img.Ref.String()].Digest == img.Digest.String()
}

// scout puts off the next try at a registry that is down.
func (g *gate) scout(registry string) {
	g.scouted[registry] = time.Now().Add(scoutEvery + rand.N(scoutEvery/4))
}

// sendScout lets one image through although its registry is down, if it fits.
func (a *Agent) sendScout(ctx context.Context, img *plan.Image, t *attempt) {
	a.gate.scout(t.registry)
	if a.fits(ctx, img, t) {
		a.start(ctx, img, t, true)
	}
}

// scouting says whether an attempt runs that was let through although its registry is down.
func (a *Agent) scouting() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(a.attempts)), func(t *attempt) bool { return t.scout && t.cancel != nil })
}

// withhold says whether a question has to wait for its registry. Where nobody finds out that
// it is back, questions go on at their own pace.
func (a *Agent) withhold(ask *plan.Ask, q *inquiry, now time.Time) bool {
	registry := ask.Ref.Registry()
	if _, down := a.isDown(registry); down && a.options.Links.Probes() {
		q.waits, a.gate.asks[registry] = true, true
		return true
	}
	if q.waits {
		q.waits = false
		if !q.next.IsZero() {
			q.next = a.gate.returned(registry, now)
		}
	}
	return false
}

// await tells what is waited for.
func (a *Agent) await() {
	if a.options.Links == nil {
		return
	}
	all := maps.Clone(a.gate.pulls)
	maps.Copy(all, a.gate.asks)
	a.options.Links.Await(slices.Collect(maps.Keys(all)))
}

// observe tells how an attempt ended where the agent does not see the connections.
func (a *Agent) observe(t *attempt) {
	if a.options.Links == nil {
		return
	}
	switch reason := runtime.ReasonOf(t.err); {
	case t.err != nil && reason == fetch.NetworkError:
		a.options.Links.GaveUp(t.registry)
	case a.info.Can(runtime.CanLimit):
	case t.err == nil, reason == fetch.NotFound, reason == fetch.Unauthorized, reason == fetch.RateLimited, reason == runtime.TagMoved:
		a.options.Links.Reached(t.registry)
	}
}

// notItsFault says whether a failure is not the image's: its registry is down. The first one is
// counted, or nobody would see that it fails.
func (a *Agent) notItsFault(t *attempt, reason runtime.Reason) bool {
	_, down := a.isDown(t.registry)
	if down {
		a.gate.scout(t.registry)
	}
	return down && reason == fetch.NetworkError && t.failures > 0
}

// held gives the holds for the status.
func (a *Agent) held() map[string]report.Hold {
	held := make(map[string]report.Hold, len(a.gate.holds))
	for name, h := range a.gate.holds {
		held[name] = report.Hold{Reason: h.reason, Message: h.message}
	}
	return held
}
