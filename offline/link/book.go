package link

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxPeers bounds how many links are kept: as many as a status can tell.
const maxPeers = 64

// Peer is one link as it is told: who is at the other end, and how it is.
type Peer struct {
	// Name is the host and port, or a word for who it is.
	Name  string
	State State
	// Since is when State began, zero for Unknown.
	Since time.Time
	// History is all that is known, oldest first; the last change is the present state.
	History []Change
}

// Book keeps the links to all peers.
type Book struct {
	changed func(name string, c Change)

	mu    sync.Mutex // guards what follows
	links map[string]*entry
}

type entry struct {
	*Link
	used time.Time // the last observation
}

// NewBook gives a book that tells each change of a state, one at a time, from the
// goroutine that observed it; changed may be nil, and must not call the book.
func NewBook(changed func(name string, c Change)) *Book {
	if changed == nil {
		changed = func(string, Change) {}
	}
	return &Book{changed: changed, links: map[string]*entry{}}
}

// Restore takes in what was stored of a peer, before anything is observed.
func (b *Book) Restore(name string, history []Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := &entry{Link: Restore(history)}
	_, e.used = e.State()
	b.links[name] = e
	b.prune(name)
}

// Reached notes that a peer answered.
func (b *Book) Reached(name string) { b.observe(name, (*Link).Reached) }

// Missed notes that a connection to a peer was not made, or broke.
func (b *Book) Missed(name string) { b.observe(name, (*Link).Missed) }

// GaveUp notes that somebody tried a peer for long, and nothing came.
func (b *Book) GaveUp(name string) { b.observe(name, (*Link).GaveUp) }

func (b *Book) observe(name string, what func(*Link, time.Time) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, now := b.links[name], time.Now()
	if e == nil {
		e = &entry{Link: &Link{}}
		b.links[name] = e
		b.prune(name)
	}
	e.used = now
	if what(e.Link, now) {
		b.changed(name, e.history[len(e.history)-1])
	}
}

// prune forgets the peer that was used longest ago when there are too many.
func (b *Book) prune(but string) {
	if len(b.links) <= maxPeers {
		return
	}
	oldest := ""
	for name, e := range b.links {
		if name != but && (oldest == "" || e.used.Before(b.links[oldest].used)) {
			oldest = name
		}
	}
	delete(b.links, oldest)
}

// Peer gives how the link to a peer is.
func (b *Book) Peer(name string) Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.links[name]
	if e == nil {
		return Peer{Name: name, State: Unknown}
	}
	return e.peer(name)
}

func (e *entry) peer(name string) Peer {
	p := Peer{Name: name, History: e.History()}
	p.State, p.Since = e.State()
	return p
}

// Peers gives all links by name.
func (b *Book) Peers() []Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Peer
	for _, name := range slices.SortedFunc(maps.Keys(b.links), strings.Compare) {
		all = append(all, b.links[name].peer(name))
	}
	return all
}
