package link

import (
	"slices"
	"time"
)

// State is how a link is.
type State string

// States.
const (
	Unknown  State = "Unknown"  // never used
	Up       State = "Up"       // the last observation was an answer
	Down     State = "Down"     // nothing comes through
	Flapping State = "Flapping" // it comes and goes
)

const (
	// downMisses in a row, over downAfter at least, make a link Down; flappingDownAfter
	// where it was Flapping.
	downMisses        = 3
	downAfter         = 10 * time.Second
	flappingDownAfter = 2 * time.Minute
	// flaps returns from Down within flapWindow make a link Flapping.
	flaps      = 3
	flapWindow = 15 * time.Minute
	// calm is how long a link must not have failed to be Up again.
	calm = 10 * time.Minute
	// historyLen bounds the history of a link.
	historyLen = 32
)

// Change is a state that a link entered.
type Change struct {
	State State     `json:"state"`
	Since time.Time `json:"since"`
}

// Link is the link to one peer. The zero value is Unknown.
type Link struct {
	history []Change // oldest first
	misses  int      // in a row
	first   time.Time
	missed  time.Time   // the last miss of all
	returns []time.Time // from Down, at most flaps
}

// Restore gives a link as it was stored.
func Restore(history []Change) *Link {
	history = slices.DeleteFunc(slices.Clone(history), func(c Change) bool {
		return c.State != Up && c.State != Down && c.State != Flapping
	})
	return &Link{history: history[max(0, len(history)-historyLen):]}
}

// State gives the present state and when it began, the zero time for Unknown.
func (l *Link) State() (State, time.Time) {
	if len(l.history) == 0 {
		return Unknown, time.Time{}
	}
	last := l.history[len(l.history)-1]
	return last.State, last.Since
}

// History gives the states that the link had, oldest first; the last one is the present.
func (l *Link) History() []Change { return slices.Clone(l.history) }

// Reached notes that the peer answered. It says whether the state changed.
func (l *Link) Reached(now time.Time) bool {
	l.misses = 0
	state, _ := l.State()
	switch state {
	case Up:
		return false
	case Flapping:
		if now.Sub(l.missed) < calm {
			return false
		}
		return l.enter(Up, now)
	case Down:
		l.returns = append(l.returns, now)
		l.returns = l.returns[max(0, len(l.returns)-flaps):]
		if len(l.returns) == flaps && now.Sub(l.returns[0]) < flapWindow {
			l.missed = now
			return l.enter(Flapping, now)
		}
	}
	return l.enter(Up, now)
}

// Missed notes that a connection was not made, or broke. It says whether the state changed.
func (l *Link) Missed(now time.Time) bool {
	if l.misses++; l.misses == 1 {
		l.first = now
	}
	l.missed = now
	state, _ := l.State()
	after := downAfter
	if state == Flapping {
		after = flappingDownAfter
	}
	if state == Down || l.misses < downMisses || now.Sub(l.first) < after {
		return false
	}
	return l.enter(Down, l.first)
}

// GaveUp notes that somebody tried for long, and nothing came. It says whether the state
// changed. A link that flaps is given its own time.
func (l *Link) GaveUp(now time.Time) bool {
	if state, _ := l.State(); state == Down || state == Flapping {
		return l.Missed(now)
	}
	if l.misses == 0 {
		l.first = now
	}
	l.misses, l.missed = l.misses+1, now
	return l.enter(Down, l.first)
}

func (l *Link) enter(s State, since time.Time) bool {
	l.history = append(l.history, Change{State: s, Since: since})
	l.history = slices.Clone(l.history[max(0, len(l.history)-historyLen):])
	return true
}
