package agent

import (
	"net/http"
	"sync"
	"time"
)

// arrivals counts in which second agents asked for their object or a watch of it.
type arrivals struct {
	mu      sync.Mutex
	seconds map[int64]int // guarded by mu
}

func (a *arrivals) note(r *http.Request) {
	if r.Method != http.MethodGet {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seconds[time.Now().Unix()]++
}

func (a *arrivals) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seconds = map[int64]int{}
}

func (a *arrivals) busiest() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := 0
	for _, n := range a.seconds {
		most = max(most, n)
	}
	return most
}
