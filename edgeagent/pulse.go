package edgeagent

import (
	"fmt"
	"sync"
	"time"
)

// stuckAfter is how long one turn of the loop may take, the runtime's share apart: a turn
// takes milliseconds, and a store on a dying card seconds.
const stuckAfter = 5 * time.Minute

// pulse says whether the loop turns. A loop that waits for something to happen is well, and
// so is one that waits for the runtime, whose calls end by themselves and which a new start
// of the agent does not mend. What it finds is a turn that does not end for another
// reason: a lock that nobody gives back, work without an end, a disk that takes no write.
type pulse struct {
	mu    sync.Mutex // guards what follows
	depth int        // of turn within turn
	since time.Time  // of the present turn's last sign of life, zero while there is none
	turns int64      // so far
}

// turn marks a turn of the loop until end is called.
func (p *pulse) turn() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.depth++; p.depth == 1 {
		p.since = time.Now()
		p.turns++
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.depth--; p.depth == 0 {
			p.since = time.Time{}
		}
	}
}

// away marks time that is the runtime's until back is called.
func (p *pulse) away() (back func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Time{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.depth > 0 {
			p.since = time.Now()
		}
	}
}

// err says that the loop is stuck.
func (p *pulse) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() || time.Since(p.since) < stuckAfter {
		return nil
	}
	return fmt.Errorf("the agent's loop has been in one turn for %s", time.Since(p.since).Round(time.Second))
}
