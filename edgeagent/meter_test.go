package edgeagent

import (
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var m meter
	at := func(seconds int, bytes int64) { m.note(start.Add(time.Duration(seconds)*time.Second), bytes) }
	rate := func(seconds int) float64 { return m.rate(start.Add(time.Duration(seconds) * time.Second)) }
	if m.rate(start) != 0 || m.brought() != 0 {
		t.Error("a meter that has seen nothing tells a rate")
	}
	at(0, 5000) // were there before
	if rate(0) != 0 {
		t.Error("what was there before has come in at once")
	}
	for s := 1; s <= 100; s++ {
		at(s, 5000+int64(s)*100)
	}
	if got := rate(100); got != 100 {
		t.Errorf("rate %v, want 100 bytes a second", got)
	}
	if got := rate(115); got != 50 {
		t.Errorf("rate %v after a silence of half the window, want 50", got)
	}
	if got := rate(200); got != 0 {
		t.Errorf("rate %v after a long silence, want 0", got)
	}
	if m.brought() != 10_000 || m.now() != 15_000 {
		t.Errorf("brought %d, now %d", m.brought(), m.now())
	}
	if len(m.samples) > 32 {
		t.Errorf("%d samples are kept", len(m.samples))
	}
}
