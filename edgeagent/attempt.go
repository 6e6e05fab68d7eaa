package edgeagent

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

const (
	// A failure that time may heal is tried again after 5 s, doubling to 5 min; one
	// that somebody has to mend after 1 min, doubling to 30 min.
	transientFirst, transientLast = 5 * time.Second, 5 * time.Minute
	permanentFirst, permanentLast = time.Minute, 30 * time.Minute
)

// attempt is the work on one image: running, or waiting for its next turn.
type attempt struct {
	digest   string
	registry string
	failures int32
	next     time.Time // not before; zero means now
	since    time.Time // of the present phase
	brought  bool      // the last run ended well
	waits    bool      // for its registry, which is down
	scout    bool      // it was let through all the same
	begun    bool      // it ran before

	// The room that it takes (room.go):
	priority   int32
	need       runtime.Need // as was said last; zero while not known
	weighed    time.Time    // when it was said
	granted    bool         // it may take what it needs
	base       int64        // done when it was granted
	kept       int64        // bytes kept for it while it is not granted
	evicted    bool         // others had to go for it
	evictAfter time.Time    // not before
	swollen    int64        // how often its unpacked size was more than thought
	hopeless   bool         // what is there of it is to go

	// While running:
	cancel context.CancelCauseFunc // nil when not running
	err    error                   // written by the attempt before it reports back
	size   atomic.Int64
	done   atomic.Int64
	start  atomic.Int64 // done at the first report; -1 before
	meter  *meter       // of the present run
}

// running is how many turns are taken. Scouts take none.
func (a *Agent) running() int {
	n := 0
	for _, t := range a.attempts {
		if t.cancel != nil && !t.scout {
			n++
		}
	}
	return n
}

// runningNames are the names that attempts are at work on, told to stop or not.
func (a *Agent) runningNames() map[string]bool {
	names := map[string]bool{}
	for name, t := range a.attempts {
		if t.cancel != nil {
			names[name] = true
		}
	}
	return names
}

// bring starts attempts for missing images that nothing holds, cancels those no longer
// wished, and says when the next pass is due.
func (a *Agent) bring(ctx context.Context) time.Time {
	missing := map[string]bool{}
	for i := range a.steps.Missing {
		missing[a.steps.Missing[i].Ref.String()] = true
	}
	a.dismiss(missing)
	now := time.Now()
	due := sooner(now.Add(a.poll()), a.closes(now))
	var ready []turn
	clear(a.gate.holds)
	clear(a.gate.pulls)
	var outside *hold
	if len(a.steps.Missing) > 0 {
		outside = a.outsideWindow(now)
	}
	for i := range a.steps.Missing {
		img := &a.steps.Missing[i]
		t := a.attempt(img)
		t.priority = img.Priority
		h := outside
		if h == nil {
			h = a.unreachable(img, t, now)
		}
		if h != nil && !t.evicted {
			t.kept = 0 // others may have the room meanwhile
		}
		if h != nil && (t.cancel == nil || t.scout) {
			a.gate.holds[img.Ref.String()] = *h
		}
		switch {
		case t.cancel != nil && (h == nil || !a.interrupts(h, t)):
		case t.cancel != nil:
			t.cancel(errHeld)
		case h != nil && (h.scout || a.mayBeHere(img, t, h)) && !a.scouting():
			a.sendScout(ctx, img, t)
		case h != nil && h.scout: // when the one that runs has ended, which is told
		case h != nil:
			due = sooner(due, h.until)
		case now.Before(t.next):
			due = earlier(due, t.next)
		case !a.fits(ctx, img, t):
		default:
			ready = append(ready, turn{t.next, func() { a.start(ctx, img, t, false) }})
		}
	}
	takeTurns(ready, a.options.Workers-a.running())
	return due
}

// sooner is earlier of a time that may not be set.
func sooner(a, b time.Time) time.Time {
	if b.IsZero() {
		return a
	}
	return earlier(a, b)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (a *Agent) poll() time.Duration {
	switch {
	case a.options.Poll > 0:
		return a.options.Poll
	case a.hinted:
		return pollWithHints
	}
	return pollBlind
}

// dismiss ends the work on images that are not missing any more.
func (a *Agent) dismiss(missing map[string]bool) {
	for name, t := range a.attempts {
		switch {
		case missing[name]:
		case t.cancel != nil:
			t.cancel(nil)
		default:
			delete(a.attempts, name)
		}
	}
}

// attempt finds the work on an image. Work on another digest of the name is over.
func (a *Agent) attempt(img *plan.Image) *attempt {
	name := img.Ref.String()
	t, ok := a.attempts[name]
	switch {
	case !ok:
	case t.digest == img.Digest.String():
		t.registry = img.Ref.Registry()
		return t
	case t.cancel != nil:
		t.cancel(nil)
		return t // until it let go
	}
	t = &attempt{digest: img.Digest.String(), registry: img.Ref.Registry(), since: time.Now()}
	a.attempts[name] = t
	return t
}

func (a *Agent) start(ctx context.Context, img *plan.Image, t *attempt, scout bool) {
	ctx, t.cancel = context.WithCancelCause(ctx)
	t.scout, t.begun = scout, true
	t.since, t.err, t.granted = time.Now(), nil, false
	t.start.Store(-1)
	t.meter = new(meter)
	name := img.Ref.String()
	request := runtime.Request{Name: img.Ref, Digest: img.Digest, Pin: img.Pin, Size: img.Size, Admit: a.admit(img, t, t.cancel)}
	a.wg.Go(func() {
		klog.FromContext(ctx).V(1).Info("Bringing image", "image", name, "digest", img.Digest)
		if t.err = a.mend(ctx, img.Digest); t.err == nil {
			t.err = a.driver.Ensure(ctx, request, t.progress)
		}
		if short, ok := errors.AsType[*shortError](context.Cause(ctx)); ok && t.err != nil {
			t.err = short.reasoned()
		}
		a.tell(func(in *inbox) { in.ended = append(in.ended, name) })
	})
}

func (t *attempt) progress(p runtime.Progress) {
	t.size.Store(p.Size)
	t.done.Store(p.Done)
	t.start.CompareAndSwap(-1, p.Done)
	t.meter.note(time.Now(), p.Done)
}

// moved says whether the running attempt brought bytes in.
func (t *attempt) moved() bool {
	from := t.start.Load()
	return t.cancel != nil && from >= 0 && t.done.Load() > from
}

// settle takes note of how an attempt ended.
func (a *Agent) settle(ctx context.Context, name string) {
	t, ok := a.attempts[name]
	if !ok || t.cancel == nil {
		return
	}
	cancelled := errors.Is(t.err, context.Canceled)
	t.cancel(nil)
	t.cancel = nil
	a.counters.ended(t)
	log := klog.FromContext(ctx)
	switch {
	case errors.Is(t.err, errHeld):
		log.V(1).Info("Image held back, what came of it stays", "image", name)
		t.since = time.Now()
		t.letGo(true)
		return
	case !cancelled:
		a.observe(t)
	}
	switch {
	case t.err == nil:
		log.Info("Image is there", "image", name, "digest", t.digest, "bytes", t.size.Load(), "took", time.Since(t.since).Round(time.Millisecond))
		a.succeeded(t)
	case cancelled && ctx.Err() == nil:
		delete(a.attempts, name)
	case cancelled:
	default:
		a.failed(ctx, name, t, t.err)
	}
}

// succeeded lets the next pass see for itself. Should the image still be missing then, it
// was removed meanwhile or the runtime does not keep what it is given: the work begins
// again, slower each time.
func (a *Agent) succeeded(t *attempt) {
	t.granted, t.kept, t.evicted = false, 0, false
	if t.brought {
		t.failures++
		t.next = time.Now().Add(backoff(t.failures, transientFirst, transientLast))
	}
	t.brought = true
}

func (a *Agent) failed(ctx context.Context, name string, t *attempt, err error) {
	short, ok := errors.AsType[*shortError](err)
	if ok && !short.stopped {
		t.letGo(false)
		a.noteShort(ctx, name, t, short)
		return
	}
	t.letGo(runtime.Transient(err) && (!ok || !t.swell()))
	log := klog.FromContext(ctx)
	if a.notItsFault(t, runtime.ReasonOf(err)) {
		log = log.V(1) // each few minutes, for as long as the link is down
	} else {
		t.failures++
	}
	reason, wait := verdict(err, t.failures)
	t.next = time.Now().Add(wait)
	log.Info("Image failed, trying again", "image", name, "reason", reason, "err", err, "attempts", t.failures, "in", wait.Round(time.Second))
	a.rememberFailure(ctx, name, store.Failure{Digest: t.digest, Reason: reason, Message: report.Cut(err.Error()), Attempts: t.failures})
}

// rememberFailure notes that an image fails, since now if it did not before.
func (a *Agent) rememberFailure(ctx context.Context, name string, failure store.Failure) {
	failure.Since = time.Now().Truncate(time.Second)
	entry := a.ledger[name]
	entry.Name = name
	before := entry.Failure
	known := before != nil && before.Digest == failure.Digest
	if known {
		failure.Since = before.Since
	}
	entry.Failure = &failure
	if !known {
		a.note(store.Record{Kind: store.ImageFailing, Image: name, Digest: failure.Digest, Reason: failure.Reason, Message: failure.Message})
	}
	if known && before.Reason == failure.Reason {
		a.ledger[name] = entry // another failure of the same kind is not worth a write to the card
		return
	}
	a.remember(ctx, []store.Entry{entry}, nil)
}

// verdict gives an error's reason and the time until the next attempt.
func verdict(err error, failures int32) (string, time.Duration) {
	wait := backoff(failures, transientFirst, transientLast)
	if !runtime.Transient(err) {
		wait = backoff(failures, permanentFirst, permanentLast)
	}
	if e, ok := errors.AsType[*fetch.Error](err); ok {
		wait = max(wait, e.RetryAfter)
	}
	return string(runtime.ReasonOf(err)), wait
}

// backoff doubles from first to last and varies by a quarter, so that a fleet that failed
// together does not come back together.
func backoff(failures int32, first, last time.Duration) time.Duration {
	d := last
	if shift := failures - 1; shift < 16 {
		d = min(last, first<<max(shift, 0))
	}
	return d + rand.N(d/4+1)
}

// work says what is going on for each image, for the status.
func (a *Agent) work() map[string]report.Work {
	out := make(map[string]report.Work, len(a.attempts))
	for name, t := range a.attempts {
		w := report.Work{Pulling: t.cancel != nil, Moved: t.moved(), Size: t.size.Load(), Done: t.done.Load()}
		if !t.since.IsZero() {
			w.Since = metav1.NewTime(t.since.Truncate(time.Second))
		}
		out[name] = w
	}
	return out
}
