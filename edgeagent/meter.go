package edgeagent

import (
	"sync"
	"time"
)

const (
	// meterWindow is the time over which the rate of a pull is taken: long enough to even
	// out layers and short links, short enough to show that nothing comes any more.
	meterWindow = 30 * time.Second
	// meterStep is the least time between two samples.
	meterStep = time.Second
)

// meter measures how fast the bytes of one attempt come in. The zero value has seen none.
type meter struct {
	mu      sync.Mutex // guards what follows
	samples []sample   // oldest first, those of the window and one before
	first   int64      // bytes that were there at the beginning
	last    int64
}

type sample struct {
	at    time.Time
	bytes int64
}

// note takes in how many bytes are there. The first time is where it begins: what was
// there already did not come in now.
func (m *meter) note(now time.Time, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 {
		m.first = bytes
	}
	m.last = max(bytes, m.last)
	if n := len(m.samples); n > 0 && now.Sub(m.samples[n-1].at) < meterStep {
		return
	}
	m.samples = append(m.samples, sample{now, bytes})
	old := 0
	for old+1 < len(m.samples) && now.Sub(m.samples[old+1].at) >= meterWindow {
		old++
	}
	m.samples = m.samples[old:]
}

// now gives the bytes that are there.
func (m *meter) now() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// brought gives the bytes that came in.
func (m *meter) brought() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last - m.first
}

// rate gives the bytes per second of the last window, 0 while it is too early to tell.
func (m *meter) rate(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.samples {
		if age := now.Sub(s.at); age <= meterWindow {
			if age < meterStep {
				return 0
			}
			return float64(m.last-s.bytes) / age.Seconds()
		}
	}
	return 0
}
