package edgeagent

import (
	"slices"
	"time"
)

// turn is work that could begin now. It has waited since a time: the zero time where it was
// never tried.
type turn struct {
	since time.Time
	begin func()
}

// takeTurns begins as much work as there are hands for, what has waited longest first: a
// registry that is dark must not take all turns from those that are not. Work that was never
// tried keeps its order.
func takeTurns(ready []turn, hands int) {
	slices.SortStableFunc(ready, func(a, b turn) int { return a.since.Compare(b.since) })
	for _, t := range ready[:min(len(ready), max(0, hands))] {
		t.begin()
	}
}
