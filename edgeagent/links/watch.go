package links

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/pause"
	"edgecache.dev/offline/link"
)

// APIServer is the peer that stands for the API server. No registry can have this name.
const APIServer = "kube-apiserver"

const (
	// saveAfter is how long changes wait for others before they are stored, saveEvery the
	// least time between two writes.
	saveAfter = 5 * time.Second
	saveEvery = 2 * time.Minute
)

// Memory keeps the history of links.
type Memory interface {
	Links() (map[string][]link.Change, error)
	SaveLinks(save map[string][]link.Change, drop []string) error
}

// Options of a Watch.
type Options struct {
	// Memory keeps the history; nil keeps none.
	Memory Memory
	// ProbeInterval is the time before a registry that is down is asked again; it grows
	// fourfold. 0 never asks.
	ProbeInterval time.Duration
	// Network tells of changes of the node's network until its context ends, as
	// NetworkChanges does; nil never does.
	Network func(context.Context) <-chan struct{}
}

// Watch knows the links of one node. Its methods may be called by several goroutines.
type Watch struct {
	options Options
	notify  func() // nil for nobody
	turned  func(peer string, up bool, since time.Time)
	book    *link.Book
	wake    chan struct{}

	mu      sync.Mutex // guards what follows
	dirty   map[string]bool
	stored  map[string]bool
	lost    map[string]bool // peers that went down and are not back yet
	awaited []string
	meters  map[string]*meter
}

// New makes a Watch that knows what was stored.
func New(ctx context.Context, o Options) *Watch {
	w := &Watch{
		options: o, wake: make(chan struct{}, 1),
		dirty: map[string]bool{}, stored: map[string]bool{}, meters: map[string]*meter{},
		lost: map[string]bool{}, turned: func(string, bool, time.Time) {},
	}
	w.book = link.NewBook(func(name string, c link.Change) { w.changed(ctx, name, c) })
	if o.Memory == nil {
		return w
	}
	known, err := o.Memory.Links()
	if err != nil {
		klog.FromContext(ctx).Error(err, "History of links not read, beginning anew with what is missing")
	}
	for name, history := range known {
		w.book.Restore(name, history)
		w.stored[name] = true
		state, _ := link.Restore(history).State()
		w.lost[name] = state == link.Down || state == link.Flapping
	}
	return w
}

// changed takes note of a new state of a link.
func (w *Watch) changed(ctx context.Context, name string, c link.Change) {
	klog.FromContext(ctx).Info("Link changed", "peer", name, "state", c.State, "since", c.Since.UTC().Format(time.RFC3339))
	w.mu.Lock()
	w.dirty[name] = true
	was := w.lost[name]
	w.lost[name] = c.State == link.Down || was && c.State == link.Flapping
	now := w.lost[name]
	w.mu.Unlock()
	w.rouse()
	if was != now {
		w.turned(name, was, c.Since)
	}
	if w.notify != nil {
		w.notify()
	}
}

// Notify has a function called when a link changed, from whatever goroutine noticed. It
// must not call the Watch. Notify is called before anything is observed.
func (w *Watch) Notify(changed func()) { w.notify = changed }

// Tell has a function called when a link went down and when it is back for good: what
// flaps is not back. As with Notify, it must not call the Watch, and is given before
// anything is observed.
func (w *Watch) Tell(turned func(peer string, up bool, since time.Time)) { w.turned = turned }

func (w *Watch) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Reached notes that a registry answered.
func (w *Watch) Reached(registry string) { w.book.Reached(registry) }

// Missed notes that a connection to a registry was not made, or broke.
func (w *Watch) Missed(registry string) { w.book.Missed(registry) }

// GaveUp notes that an attempt ended because a registry was not reached for long.
func (w *Watch) GaveUp(registry string) { w.book.GaveUp(registry) }

// Received notes bytes of blobs that came from a registry.
func (w *Watch) Received(registry string, n int) {
	w.mu.Lock()
	m := w.meters[registry]
	if m == nil {
		m = &meter{}
		w.meters[registry] = m
	}
	news := m.add(time.Now(), int64(n))
	w.mu.Unlock()
	if news {
		w.book.Reached(registry)
	}
}

// Down says whether a registry is not to be reached now, and since when.
func (w *Watch) Down(registry string) (since time.Time, down bool) {
	p := w.book.Peer(registry)
	return p.Since, p.State == link.Down
}

// Connected says whether the API server answers, as far as is known.
func (w *Watch) Connected() bool { return w.book.Peer(APIServer).State == link.Up }

// Probes says whether registries that are down are asked whether they are back.
func (w *Watch) Probes() bool { return w.options.ProbeInterval > 0 }

// Await says which registries something waits for, in place of those of before.
func (w *Watch) Await(registries []string) {
	slices.Sort(registries)
	w.mu.Lock()
	same := slices.Equal(w.awaited, registries)
	w.awaited = registries
	w.mu.Unlock()
	if !same {
		w.rouse()
	}
}

// Peers gives all links, that to the API server among them.
func (w *Watch) Peers() []link.Peer { return w.book.Peers() }

// Registries gives the links to registries as a status tells them. Those that were never
// used are left out.
func (w *Watch) Registries() []v1alpha1.RegistryStatus {
	var all []v1alpha1.RegistryStatus
	for _, p := range w.book.Peers() {
		if p.Name == APIServer || p.State == link.Unknown {
			continue
		}
		reachable := metav1.ConditionTrue
		if p.State == link.Down {
			reachable = metav1.ConditionFalse
		}
		all = append(all, v1alpha1.RegistryStatus{
			Host: p.Name, Reachable: reachable, State: v1alpha1.LinkState(p.State), Since: metav1.NewTime(p.Since.Truncate(time.Second)), BytesPerSecond: w.speed(p.Name),
		})
	}
	return all
}

// speed is how fast blobs came from a registry lately, in bytes per second.
func (w *Watch) speed(registry string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.meters[registry]; m != nil {
		return m.shown
	}
	return 0
}

// Run stores what changes, and has the prober ask registries that are waited for, until the
// context ends.
func (w *Watch) Run(ctx context.Context, prober Prober) {
	p := newProbes(w, prober)
	defer p.close()
	var save, last time.Time
	for {
		var hints <-chan struct{}
		if w.Probes() {
			p.choose(ctx)
			hints = p.hints
		}
		select {
		case <-ctx.Done():
			w.save(ctx)
			return
		case <-w.wake:
			if save.IsZero() && w.owes() {
				save = later(time.Now().Add(saveAfter), last.Add(saveEvery))
			}
		case <-pause.At(save):
			w.save(ctx)
			save, last = time.Time{}, time.Now()
		case <-pause.At(p.due()):
			p.ask(ctx)
		case <-hints:
			p.hurry()
		}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (w *Watch) owes() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dirty) > 0
}

// save stores the history of the links that changed. What cannot be stored is tried again
// with the next change.
func (w *Watch) save(ctx context.Context) {
	if !w.owes() || w.options.Memory == nil {
		return
	}
	peers := w.book.Peers()
	w.mu.Lock()
	save, gone := map[string][]link.Change{}, maps.Clone(w.stored)
	for _, p := range peers {
		delete(gone, p.Name)
		if w.dirty[p.Name] {
			save[p.Name] = p.History
		}
	}
	w.mu.Unlock()
	if err := w.options.Memory.SaveLinks(save, slices.Sorted(maps.Keys(gone))); err != nil {
		klog.FromContext(ctx).V(1).Info("History of links not stored", "err", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range save {
		delete(w.dirty, name)
		w.stored[name] = true
	}
	for name := range gone {
		delete(w.stored, name)
	}
}
