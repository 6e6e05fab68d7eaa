package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/evict"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

const (
	// reweighEvery is how often an image that did not fit is asked for again although there
	// is not more room: it may share layers with what came since.
	reweighEvery = time.Hour
	// noEvictFor is how long nothing is given up for an image for which something was, and
	// which then could not come for a reason that waiting does not mend.
	noEvictFor = time.Hour
	// noEvictForSwollen is the same for one that was unpacked to more than was thought.
	noEvictForSwollen = 24 * time.Hour
	// noEvictForRefused is the same where the runtime did not remove what was to go.
	noEvictForRefused = 10 * time.Minute
	// maxEvictions bounds how often more is given up for one attempt, where the first did not
	// free what it should.
	maxEvictions = 3
	// maxSwollen bounds how often half of an estimate is added to it.
	maxSwollen = 4
	// usedStep is how much newer a time of use is than the stored one before it is written.
	usedStep = 10 * time.Minute
)

// space is what the agent knows of the room for images. It belongs to the agent's goroutine.
type space struct {
	room    evict.Room
	known   bool // the file system could be looked at
	pleas   []*plea
	weighed bool // since the last look, or that was tried: spare and weights are known, or nil
	spare   []evict.Image
	weights evict.Weights
	used    map[string]time.Time // when images were last seen in use, by ID
}

// plea is an attempt that asks whether its image may come in.
type plea struct {
	name      string
	of        *attempt
	need      runtime.Need
	served    bool // the registry serves the image just now
	evictions int
	answer    chan error // takes one
}

// shortError says that an image does not fit. Its text has the figures.
type shortError struct {
	need     runtime.Need
	room     evict.Room
	possible int64 // bytes that giving up all that is less important would free
	stopped  bool  // a pull that had begun was stopped
}

func (e *shortError) Error() string {
	b := report.HumanBytes
	kept := fmt.Sprintf("%s free, of which %s stay free for the node", b(e.room.Available), b(e.room.Reserve+e.room.Slack()))
	if e.room.Claimed > 0 {
		kept += fmt.Sprintf(" and %s are for images that are coming in", b(e.room.Claimed))
	}
	if e.stopped {
		return "stopped: the disk is filling up: " + kept
	}
	return fmt.Sprintf("needs %s (%s to fetch, %s unpacked): %s; giving up all that is less important would free %s",
		b(e.need.Total()), b(e.need.Fetch), b(e.need.Unpack), kept, b(e.possible))
}

// reasoned gives an error the reason that goes with it.
func (e *shortError) reasoned() error { return &runtime.Error{Reason: fetch.InsufficientDisk, Err: e} }

// errUnserved asks to find out whether the registry serves an image before others are given
// up for it: what is cached is not dropped for what cannot come.
var errUnserved = errors.New("not known whether the registry serves the image")

// errNoRoot is why free space is not known.
var errNoRoot = errors.New("the container runtime does not say where it keeps images")

// diskOf looks at the file system with a path; nil where nobody can.
func (a *Agent) diskOf(root string) (*v1alpha1.DiskStatus, error) {
	switch {
	case a.options.Disk == nil:
		return nil, nil
	case root == "":
		return nil, errNoRoot
	}
	disk, err := a.options.Disk(root)
	if err == nil {
		disk.Reserve = a.options.Reserve.Of(disk.Capacity)
	}
	return disk, err
}

// measure looks at the image file system, and forgets what was worked out of the runtime.
func (a *Agent) measure(ctx context.Context, inUse map[string]struct{}) {
	disk, err := a.diskOf(a.info.Root)
	a.trouble.note(ctx, withDisk, err, "Free space of the image file system not known, pulling all the same")
	s := &a.space
	s.weighed, s.spare, s.weights, s.known = false, nil, nil, disk != nil
	if disk != nil {
		s.room = evict.Room{Capacity: disk.Capacity, Available: disk.Available, Reserve: disk.Reserve}
	}
	if len(s.used) > 2*len(a.inventory)+16 { // most are of images that are gone
		s.used = nil
	}
	if s.used == nil {
		s.used = map[string]time.Time{}
	}
	for id := range inUse {
		s.used[id] = time.Now()
	}
}

// roomFor is the room as it is for one attempt: what others will take is taken, and so is
// what is kept for those that are not less important.
func (a *Agent) roomFor(t *attempt) evict.Room {
	r := a.space.room
	for _, o := range a.attempts {
		if o != t && (o.granted || o.priority >= t.priority) {
			r.Claimed += o.claim()
		}
	}
	return r
}

// claim is what an attempt will still take of the room.
func (t *attempt) claim() int64 {
	if !t.granted {
		return t.kept
	}
	return max(0, t.need.Fetch-(t.done.Load()-t.base)) + t.need.Unpack
}

// fits says whether it makes sense to begin with an image, and keeps room for it if so. What
// it takes is known once it was asked for.
func (a *Agent) fits(ctx context.Context, img *plan.Image, t *attempt) bool {
	t.kept = 0
	if !a.space.known || t.need.Total() == 0 || time.Since(t.weighed) >= reweighEvery {
		return true
	}
	room := a.roomFor(t)
	going, possible := a.choose(ctx, t, room)
	if t.need.Total() > room.Free() && len(going) == 0 {
		a.noteShort(ctx, img.Ref.String(), t, &shortError{need: t.need, room: room, possible: possible})
		return false
	}
	t.kept = t.need.Total()
	return true
}

// choose gives what would have to go for an image, and what going could free at most.
func (a *Agent) choose(ctx context.Context, t *attempt, room evict.Room) ([]evict.Image, int64) {
	if t.need.Total() <= room.Free() || time.Now().Before(t.evictAfter) {
		return nil, 0
	}
	priority := t.priority
	if a.options.Prober == nil {
		priority = math.MinInt32 // no wished image goes for one that may not come
	}
	return evict.Choose(t.need.Total()-room.Free(), priority, a.spares(ctx), a.space.weights)
}

// spares gives what could be given up, and weighs what there is.
func (a *Agent) spares(ctx context.Context) []evict.Image {
	weigher, ok := a.driver.(runtime.Weigher)
	if !ok || a.space.weighed {
		return a.space.spare
	}
	a.space.weighed = true // a runtime that does not answer is not asked once for each image
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer a.pulse.away()()
	weights, err := weigher.Weigh(call)
	a.trouble.note(ctx, withRoom, err, "Images not weighed, giving up none")
	if err == nil {
		a.space.weights, a.space.spare = weights, plan.Spare(a.input, a.space.used)
	}
	return a.space.spare
}

// admit gives an attempt the question whether its image may come in, which waits for the
// agent's goroutine. Once it may, the disk is watched for as long as the attempt lasts.
func (a *Agent) admit(img *plan.Image, t *attempt, stop context.CancelCauseFunc) func(context.Context, runtime.Need) error {
	if a.options.Disk == nil {
		return nil
	}
	root, name, want := a.info.Root, img.Ref, img.Digest
	watched := false
	return func(ctx context.Context, need runtime.Need) error {
		if need.Total() == 0 {
			return nil
		}
		p := &plea{name: name.String(), of: t, need: need, answer: make(chan error, 1)}
		err := a.plead(ctx, p)
		if errors.Is(err, errUnserved) {
			if err := a.options.Prober.Serves(ctx, name, want); err != nil {
				return err
			}
			p.served = true
			err = a.plead(ctx, p)
		}
		if err == nil && !watched {
			watched = true
			a.wg.Go(func() { a.guard(ctx, root, stop) })
		}
		return err
	}
}

// plead asks the agent's goroutine and waits for the answer.
func (a *Agent) plead(ctx context.Context, p *plea) error {
	a.tell(func(in *inbox) { in.pleas = append(in.pleas, p) })
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-p.answer:
		return err
	}
}

// makeRoom answers attempts that ask for room, the most important first, and gives up for
// them what may go. It says whether something was given up, and there is something new to see.
func (a *Agent) makeRoom(ctx context.Context) bool {
	s := &a.space
	slices.SortStableFunc(s.pleas, func(x, y *plea) int { return int(y.of.priority) - int(x.of.priority) })
	for len(s.pleas) > 0 {
		p := s.pleas[0]
		going, err := a.judge(ctx, p)
		if len(going) > 0 {
			p.evictions++
			if a.giveUp(ctx, going, p.name) {
				p.of.evicted = true
				return true
			}
			p.of.evictAfter = time.Now().Add(noEvictForRefused)
		}
		s.pleas = s.pleas[1:]
		p.answer <- err
	}
	return false
}

// answerPleas answers attempts that still ask, with the room as it is.
func (a *Agent) answerPleas(ctx context.Context) {
	for _, p := range a.space.pleas {
		_, err := a.judge(ctx, p)
		p.answer <- err
	}
	a.space.pleas = nil
}

// judge says whether an image may come in, or what has to go before that is asked again. The
// error is the answer if that does not go.
func (a *Agent) judge(ctx context.Context, p *plea) ([]evict.Image, error) {
	t := p.of
	if a.attempts[p.name] != t || t.cancel == nil {
		return nil, context.Canceled
	}
	t.need, t.weighed, t.base, t.granted = p.need, time.Now(), t.done.Load(), false
	t.need.Unpack += t.need.Unpack / 2 * t.swollen
	room := a.roomFor(t)
	if !a.space.known || t.need.Total() <= room.Free() {
		t.granted, t.kept = true, 0
		return nil, nil
	}
	going, possible := a.choose(ctx, t, room)
	switch {
	case p.evictions >= maxEvictions:
		going = nil
	case !p.served && slices.ContainsFunc(going, func(img evict.Image) bool { return img.Rank == evict.Wished }):
		return nil, errUnserved
	}
	return going, (&shortError{need: t.need, room: room, possible: possible}).reasoned()
}

// giveUp removes images for the sake of another one. It says whether it could.
func (a *Agent) giveUp(ctx context.Context, going []evict.Image, heir string) bool {
	var names []imageref.Reference
	for _, img := range going {
		names = append(names, img.Names...)
	}
	klog.FromContext(ctx).Info("Giving up images for a more important one", "names", names, "for", heir)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	back := a.pulse.away()
	err := a.driver.Remove(call, names...)
	back()
	a.trouble.note(ctx, withRoom, err, "Images not given up")
	for _, img := range going {
		if img.Rank == evict.Wished && err == nil {
			a.noteGivenUp(ctx, img, heir)
		}
	}
	return err == nil
}

// noteGivenUp has a wished image wait until there is room for it again.
func (a *Agent) noteGivenUp(ctx context.Context, img evict.Image, heir string) {
	var weight int64
	for _, part := range a.space.weights[img.Names[0]] {
		weight += part.Size
	}
	for i := range a.steps.Cached {
		c := &a.steps.Cached[i]
		if !slices.Contains(img.Names, c.Ref) {
			continue
		}
		name := c.Ref.String()
		a.attempts[name] = &attempt{
			digest: c.Digest.String(), priority: c.Priority, since: time.Now(), need: runtime.Need{Fetch: weight}, weighed: time.Now(),
		}
		if e := a.ledger[name]; e.Lost == nil { // it is away, and nobody else took it
			e.Lost = new(time.Now().UTC().Truncate(time.Second))
			a.ledger[name] = e
		}
		a.rememberFailure(ctx, name, store.Failure{
			Digest: c.Digest.String(), Reason: v1alpha1.ReasonInsufficientDisk, Attempts: 1,
			Message: report.Cut(fmt.Sprintf("given up for %s, which is more important; it needs %s", heir, report.HumanBytes(weight))),
		})
	}
}

// noteShort remembers that an image does not fit. It is tried again when there is room,
// however often it did not fit before.
func (a *Agent) noteShort(ctx context.Context, name string, t *attempt, short *shortError) {
	t.next = time.Time{}
	before := a.ledger[name].Failure
	if before == nil || before.Digest != t.digest || before.Reason != v1alpha1.ReasonInsufficientDisk {
		klog.FromContext(ctx).Info("Image does not fit", "image", name, "why", short.Error())
	}
	a.rememberFailure(ctx, name, store.Failure{
		Digest: t.digest, Reason: v1alpha1.ReasonInsufficientDisk, Message: report.Cut(short.Error()), Attempts: max(1, t.failures),
	})
}

// letGo is what becomes of the room of an attempt that has failed. What others had to make
// for it stays its own while waiting may help; else nobody makes room for it for a while.
func (t *attempt) letGo(transient bool) {
	claim := t.claim()
	if t.granted {
		t.need.Fetch, t.base = max(0, t.need.Fetch-(t.done.Load()-t.base)), t.done.Load()
	}
	t.granted, t.kept = false, 0
	switch {
	case t.evicted && transient:
		t.kept = claim
	case t.evicted:
		t.evicted, t.evictAfter = false, time.Now().Add(noEvictFor)
	}
}

// swell says whether an image that was fetched as a whole was too large to be unpacked: its
// estimate was too low. Until that is known better nothing is given up for it.
func (t *attempt) swell() bool {
	size := t.size.Load()
	if !t.granted || size == 0 || t.done.Load() < size {
		return false
	}
	t.swollen = min(t.swollen+1, maxSwollen)
	t.need.Unpack += t.need.Unpack / 2
	t.hopeless, t.evicted, t.evictAfter = true, false, time.Now().Add(noEvictForSwollen)
	return true
}

// oweUses adds times of use to what is written to the store next: they are worth no write of
// their own.
func (a *Agent) oweUses() {
	for i := range a.steps.Cached {
		ref := a.steps.Cached[i].Ref
		last, seen := a.space.used[a.inventory[ref].ID]
		e, known := a.ledger[ref.String()]
		if seen && known && last.Sub(e.Used) >= usedStep {
			e.Used = last.Truncate(time.Second)
			a.ledger[e.Name], a.owes.names[e.Name] = e, true
		}
	}
}
