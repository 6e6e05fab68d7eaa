package inventory

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// part is one thing that is pulled as a whole: layers that the same images have in common, named after the first of
// them, or an image of which nothing more is known.
type part struct {
	key   string
	bytes int64
}

// flight is what is on its way to one node. It is never changed, only replaced.
type flight struct {
	left  map[string]int64 // part to bytes that are still to come
	total int64
}

// promise is what one pod will have its node pull.
type promise struct {
	pod    types.UID
	node   *Node
	names  []string // the pod's images
	parts  []part
	begun  time.Time
	takes  time.Duration
	expiry time.Time
}

// least is the share of a promise that stays until it is kept: estimates may be short.
const least = 0.1

// left is the share that is still to come.
func (p *promise) left(now time.Time) float64 {
	if p.takes <= 0 {
		return least
	}
	return min(1, max(least, 1-now.Sub(p.begun).Seconds()/p.takes.Seconds()))
}

// flights are what pods that were placed, and agents, are pulling. The lock is only held for a few map operations.
type flights struct {
	now    func() time.Time
	shared atomic.Int64 // bytes on their way over the uplinks of sites

	mu     sync.Mutex
	byPod  map[types.UID]*promise // guarded by mu
	on     map[*Node][]*promise   // guarded by mu
	agents map[*Node][]part       // what agents say they are pulling; guarded by mu
}

func newFlights(now func() time.Time) *flights {
	return &flights{now: now, byPod: map[types.UID]*promise{}, on: map[*Node][]*promise{}, agents: map[*Node][]part{}}
}

func (f *flights) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byPod)
}

// add takes a promise in, in place of an earlier one of the same pod.
func (f *flights) add(p *promise) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before := f.drop(p.pod); before != nil && before.node != p.node {
		f.rebuild(before.node)
	}
	f.byPod[p.pod] = p
	f.on[p.node] = append(f.on[p.node], p)
	f.rebuild(p.node)
}

// done forgets a pod's promise. It may have none.
func (f *flights) done(pod types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.drop(pod); p != nil {
		f.rebuild(p.node)
	}
}

func (f *flights) drop(pod types.UID) *promise {
	p := f.byPod[pod]
	if p == nil {
		return nil
	}
	delete(f.byPod, pod)
	f.on[p.node] = slices.DeleteFunc(f.on[p.node], func(o *promise) bool { return o == p })
	if len(f.on[p.node]) == 0 {
		delete(f.on, p.node)
	}
	return p
}

// report takes in what a node's agent says it is pulling.
func (f *flights) report(n *Node, parts []part) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(parts) == 0 && len(f.agents[n]) == 0 {
		return
	}
	f.agents[n] = parts
	if len(parts) == 0 {
		delete(f.agents, n)
	}
	f.rebuild(n)
}

// confirm forgets the promises to a node whose images it holds.
func (f *flights) confirm(n *Node, holds func(name string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kept []types.UID
	for _, p := range f.on[n] {
		if !slices.ContainsFunc(p.names, func(name string) bool { return !holds(name) }) {
			kept = append(kept, p.pod)
		}
	}
	for _, pod := range kept {
		f.drop(pod)
	}
	if kept != nil {
		f.rebuild(n)
	}
}

// forget drops all that is about a node.
func (f *flights) forget(n *Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.on[n] {
		delete(f.byPod, p.pod)
	}
	delete(f.on, n)
	delete(f.agents, n)
	f.rebuild(n)
}

// move has a node belong to a site.
func (f *flights) move(n *Node, s *site) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := n.site.Load()
	if before == s {
		return
	}
	bytes := n.flight.Load().bytes()
	f.queue(before, -bytes)
	f.queue(s, bytes)
	n.site.Store(s)
}

// age forgets what expired and lets the rest shrink as time goes.
func (f *flights) age() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, nodes := f.now(), map[*Node]bool{}
	for _, p := range f.byPod {
		nodes[p.node] = true
		if !now.Before(p.expiry) {
			f.drop(p.pod)
		}
	}
	for n := range nodes {
		f.rebuild(n)
	}
}

// rebuild works out what is on its way to a node. What several are waiting for comes once: the one that began first is
// the furthest.
func (f *flights) rebuild(n *Node) {
	now, next := f.now(), &flight{left: map[string]int64{}}
	for _, p := range f.on[n] {
		share := p.left(now)
		for _, part := range p.parts {
			next.take(part.key, int64(share*float64(part.bytes)))
		}
	}
	for _, part := range f.agents[n] {
		next.take(part.key, part.bytes)
	}
	for _, bytes := range next.left {
		next.total += bytes
	}
	if len(next.left) == 0 {
		next = nil
	}
	before := n.flight.Swap(next)
	f.queue(n.site.Load(), next.bytes()-before.bytes())
}

func (f *flight) take(key string, bytes int64) {
	if before, ok := f.left[key]; !ok || bytes < before {
		f.left[key] = bytes
	}
}

func (f *flight) bytes() int64 {
	if f == nil {
		return 0
	}
	return f.total
}

// queue adds what is on its way to a site.
func (f *flights) queue(s *site, bytes int64) {
	if s != nil {
		s.ahead.Add(bytes)
		f.shared.Add(bytes)
	}
}
