package links

import "time"

const (
	// window is how long bytes are counted for one measurement.
	window = 10 * time.Second
	// idle is a pause between bytes that belongs to no measurement: nothing was asked for.
	idle = 30 * time.Second
	// smooth is the share of the newest measurement, and step by how much of itself the
	// speed must have changed to be shown: a status is not written for less.
	smooth, step = 0.5, 0.25
	// proof is how often bytes count as an answer.
	proof = time.Second
)

// meter measures how fast bytes come.
type meter struct {
	began, last, proved time.Time
	bytes               int64
	speed               float64 // bytes per second, 0 before the first measurement
	shown               int64
}

// add counts bytes. It says from time to time that some came.
func (m *meter) add(now time.Time, n int64) (news bool) {
	if m.began.IsZero() || now.Sub(m.last) > idle {
		m.began, m.bytes = now, 0
	}
	m.last, m.bytes = now, m.bytes+n
	if lasted := now.Sub(m.began); lasted >= window {
		m.measured(float64(m.bytes) / lasted.Seconds())
		m.began, m.bytes = now, 0
	}
	if news = now.Sub(m.proved) >= proof; news {
		m.proved = now
	}
	return news
}

func (m *meter) measured(speed float64) {
	if m.speed > 0 {
		speed = smooth*speed + (1-smooth)*m.speed
	}
	m.speed = speed
	if shown := float64(m.shown); speed > shown*(1+step) || speed < shown*(1-step) {
		m.shown = int64(speed)
	}
}
