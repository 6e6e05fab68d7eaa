package link

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// played plays observations into a link: + is an answer, - a miss, ! somebody gave up, and
// a span is waited. It gives the states that were entered, each with its Since in seconds.
func played(l *Link, script string) string {
	begin := time.Now()
	for word := range strings.FieldsSeq(script) {
		switch word {
		case "+":
			l.Reached(time.Now())
		case "-":
			l.Missed(time.Now())
		case "!":
			l.GaveUp(time.Now())
		default:
			d, err := time.ParseDuration(word)
			if err != nil {
				panic(err)
			}
			time.Sleep(d)
		}
	}
	var states []string
	for _, c := range l.History() {
		states = append(states, fmt.Sprintf("%s@%.0f", c.State, c.Since.Sub(begin).Seconds()))
	}
	return strings.Join(states, " ")
}

func TestLink(t *testing.T) {
	t.Parallel()
	outage := " - 5s - 5s - 30s + 30s"
	tests := map[string]struct{ script, want string }{
		"never used":                                {"", ""},
		"an answer":                                 {"+ 1h + 1h +", "Up@0"},
		"a lost connection is no outage":            {"+ 10s - 1s + 10s - 1s +", "Up@0"},
		"nor are many at once":                      {"+ 10s - - - - - -", "Up@0"},
		"nor two over a long time":                  {"+ 10s - 1h -", "Up@0"},
		"three over a while are, since the first":   {"+ 10s - 5s - 5s -", "Up@0 Down@10"},
		"a peer that never answered":                {"- 5s - 5s -", "Down@0"},
		"more of the same is no news":               {"- 5s - 5s - 1h - 1h -", "Down@0"},
		"it comes back with one answer":             {"- 5s - 5s - 50s +", "Down@0 Up@60"},
		"giving up is enough":                       {"+ 10s !", "Up@0 Down@10"},
		"giving up after misses, since the first":   {"+ 10s - 2s !", "Up@0 Down@10"},
		"giving up twice":                           {"! 10s !", "Down@0"},
		"three outages in a short time are a habit": {strings.Repeat(outage, 3), "Down@0 Up@40 Down@70 Up@110 Down@140 Flapping@180"},
		"outages that are far apart are not":        {strings.Repeat(outage+" 10m", 3), "Down@0 Up@40 Down@670 Up@710 Down@1340 Up@1380"},
		"a habit is no news each time":              {strings.Repeat(outage, 9), "Down@0 Up@40 Down@70 Up@110 Down@140 Flapping@180"},
		"giving up is part of the habit":            {strings.Repeat(outage, 3) + " ! 10s ! 10s +", "Down@0 Up@40 Down@70 Up@110 Down@140 Flapping@180"},
		"until it stays away":                       {strings.Repeat(outage, 3) + " - 1m - 1m -", "Down@0 Up@40 Down@70 Up@110 Down@140 Flapping@180 Down@210"},
		"or is calm for long":                       {strings.Repeat(outage, 3) + " 5m + 6m +", "Down@0 Up@40 Down@70 Up@110 Down@140 Flapping@180 Up@870"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if got := played(&Link{}, tc.script); got != tc.want {
					t.Errorf("states %s\nwant   %s", got, tc.want)
				}
			})
		})
	}
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &Link{}
		played(l, strings.Repeat("- 5s - 5s - 1h + 1h ", 100))
		if n := len(l.History()); n != historyLen {
			t.Errorf("%d changes are kept, want %d", n, historyLen)
		}
		restored := Restore(append(l.History(), Change{State: "Sideways", Since: time.Now()}))
		if diff := cmp.Diff(l.History(), restored.History()); diff != "" {
			t.Errorf("restored (-want +got):\n%s", diff)
		}
	})
}

// TestAFlappingLinkChangesSeldom: a link that fails 5 s of every 25 for a day, of which each
// failure is seen several times.
func TestAFlappingLinkChangesSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		b := NewBook(func(string, Change) { changes++ })
		for range 24 * 60 * 60 / 40 {
			b.Reached("r")
			time.Sleep(20 * time.Second)
			for range 4 {
				b.Missed("r")
				time.Sleep(5 * time.Second)
			}
		}
		if changes > 10 {
			t.Errorf("%d changes of state in a day", changes)
		}
		if p := b.Peer("r"); p.State != Flapping {
			t.Errorf("the link is %s", p.State)
		}
	})
}

func TestAClockThatJumpsBack(t *testing.T) {
	t.Parallel()
	l, now := &Link{}, time.Unix(1_800_000_000, 0)
	for range 5 {
		l.Missed(now)
		now = now.Add(-time.Hour)
	}
	if s, _ := l.State(); s != Unknown {
		t.Errorf("the link is %s after misses in no time", s)
	}
	l.Reached(now)
	if s, _ := l.State(); s != Up {
		t.Errorf("the link is %s after an answer", s)
	}
}

func TestBook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		b := NewBook(func(name string, c Change) { told = append(told, name+" "+string(c.State)) })
		b.Restore("old", []Change{{Down, time.Now().Add(-time.Hour)}})
		b.Reached("a")
		b.GaveUp("b")
		b.GaveUp("old")
		b.Reached("old")
		if diff := cmp.Diff([]string{"a Up", "b Down", "old Up"}, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if p := b.Peer("none"); p.State != Unknown || !p.Since.IsZero() {
			t.Errorf("a peer that was never used: %+v", p)
		}
		for i := range 2 * maxPeers {
			time.Sleep(time.Second)
			b.Reached(fmt.Sprintf("host-%03d", i))
		}
		if all := b.Peers(); len(all) != maxPeers || all[0].Name != "host-064" {
			t.Errorf("%d peers are kept, from %s on", len(all), all[0].Name)
		}
	})
}
