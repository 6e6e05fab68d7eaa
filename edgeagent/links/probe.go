package links

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// Prober asks a registry whether it is there. Any answer is one.
type Prober interface {
	Probe(ctx context.Context, registry string) error
}

const (
	// probeTimeout bounds one question.
	probeTimeout = 15 * time.Second
	// probeGrows is by how much the interval grows while a registry stays away: 1, 2, 4, 4…
	probeGrows = 2
	// hurried spreads the questions after the node's network changed: a route is there a
	// moment after the link.
	hurried = 2 * time.Second
)

// probes are the questions to registries that are down and waited for. It belongs to the
// goroutine in Run.
type probes struct {
	watch *Watch
	ways  Prober
	next  map[string]*question
	hints <-chan struct{} // the node's network changed; nil while nobody listens
	deaf  context.CancelFunc
}

type question struct {
	at    time.Time
	tries int
}

func newProbes(w *Watch, ways Prober) *probes {
	return &probes{watch: w, ways: ways, next: map[string]*question{}}
}

// choose finds whom to ask, at first after the interval.
func (p *probes) choose(ctx context.Context) {
	p.watch.mu.Lock()
	awaited := slices.Clone(p.watch.awaited)
	p.watch.mu.Unlock()
	down := map[string]bool{}
	for _, registry := range awaited {
		if _, is := p.watch.Down(registry); !is {
			continue
		}
		down[registry] = true
		if p.next[registry] == nil {
			p.next[registry] = &question{at: time.Now().Add(p.wait(0))}
		}
	}
	for registry := range p.next {
		if !down[registry] {
			delete(p.next, registry)
		}
	}
	p.listen(ctx)
}

// wait is the time before the next question, jittered so that the nodes of a site do not
// ask together.
func (p *probes) wait(tries int) time.Duration {
	d := p.watch.options.ProbeInterval << min(tries, probeGrows)
	return d - d/4 + rand.N(d/2+1)
}

// listen hears of changes of the node's network while somebody is asked.
func (p *probes) listen(ctx context.Context) {
	switch {
	case len(p.next) == 0:
		p.close()
	case p.deaf == nil && p.watch.options.Network != nil:
		ctx, p.deaf = context.WithCancel(ctx)
		p.hints = p.watch.options.Network(ctx)
	}
}

// close ends listening.
func (p *probes) close() {
	if p.deaf != nil {
		p.deaf()
	}
	p.deaf, p.hints = nil, nil
}

// due is when somebody is to be asked next, zero for nobody.
func (p *probes) due() time.Time {
	var due time.Time
	for _, q := range p.next {
		if due.IsZero() || q.at.Before(due) {
			due = q.at
		}
	}
	return due
}

// hurry has all asked soon.
func (p *probes) hurry() {
	for _, q := range p.next {
		if soon := time.Now().Add(rand.N(hurried) + 1); soon.Before(q.at) {
			q.at, q.tries = soon, 0
		}
	}
}

// ask asks all that are due, side by side.
func (p *probes) ask(ctx context.Context) {
	var all sync.WaitGroup
	for registry, q := range p.next {
		if time.Now().Before(q.at) {
			continue
		}
		q.tries++
		all.Go(func() { p.one(ctx, registry) })
	}
	all.Wait()
	for _, q := range p.next {
		if !time.Now().Before(q.at) {
			q.at = time.Now().Add(p.wait(q.tries))
		}
	}
}

func (p *probes) one(ctx context.Context, registry string) {
	asked, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := p.ways.Probe(asked, registry)
	switch {
	case err == nil:
		p.watch.Reached(registry)
	case ctx.Err() == nil:
		klog.FromContext(ctx).V(2).Info("Registry is still away", "registry", registry, "err", err)
		p.watch.Missed(registry)
	}
}
