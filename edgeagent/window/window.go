package window

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	minDuration = time.Minute
	maxDuration = 7 * 24 * time.Hour
	// doubt is how soon a clock that is wrong is looked at again.
	doubt = time.Minute
)

// example ends the texts of errors.
const example = "write a window as 0 1 * * * for 4h in Europe/Lisbon"

// Windows are when pulls may run. The zero value, and nil, is always.
type Windows struct {
	all []window
	// built is before every right time, zero where that is not known.
	built time.Time
}

// window is one that recurs.
type window struct {
	opens cron.Schedule
	lasts time.Duration
	zone  *time.Location
}

// Parse reads windows. built is when the program was built: a clock before that is wrong;
// the zero time believes every clock. Errors name the window by its index.
func Parse(list []string, built time.Time) (*Windows, error) {
	w := &Windows{built: built}
	for i, s := range list {
		one, err := parse(s)
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", i, err)
		}
		w.all = append(w.all, one)
	}
	return w, nil
}

// Check says what is wrong with a window that a user wrote, nil when nothing is.
func Check(s string) error {
	_, err := parse(s)
	return err
}

// parse reads one window: "CRON for DURATION" or "CRON for DURATION in ZONE", in UTC where
// no zone is given.
func parse(s string) (w window, err error) {
	expression, rest, ok := strings.Cut(s, " for ")
	if !ok {
		return w, errors.New("says not for how long: " + example)
	}
	lasts, zone, named := strings.Cut(rest, " in ")
	if !named {
		zone = "UTC"
	}
	if w.zone, err = time.LoadLocation(strings.TrimSpace(zone)); err != nil {
		return w, fmt.Errorf("time zone %q is not known: %s", strings.TrimSpace(zone), example)
	}
	if w.lasts, err = time.ParseDuration(strings.TrimSpace(lasts)); err != nil || w.lasts < minDuration || w.lasts > maxDuration {
		return w, fmt.Errorf("duration %q must be from 1m to 168h: %s", strings.TrimSpace(lasts), example)
	}
	if strings.Contains(expression, "=") { // a zone in the expression, in a second way
		return w, errors.New("names a zone in its cron expression: " + example)
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	if w.opens, err = parser.Parse(strings.TrimSpace(expression)); err != nil {
		return w, fmt.Errorf("cron expression %q, minute hour day month weekday, is wrong (%w): %s", strings.TrimSpace(expression), err, example)
	}
	if w.opens.Next(time.Date(2001, 1, 1, 0, 0, 0, 0, w.zone)).IsZero() {
		return w, fmt.Errorf("cron expression %q never comes: %s", strings.TrimSpace(expression), example)
	}
	return w, nil
}

// Verdict says whether pulls may run.
type Verdict struct {
	Open bool
	// Until is when that is to be asked again, zero for never.
	Until time.Time
	// Message says what is waited for where Open is false.
	Message string
}

// At judges a time.
func (w *Windows) At(now time.Time) Verdict {
	if w == nil || len(w.all) == 0 {
		return Verdict{Open: true}
	}
	now = now.Round(0) // the wall clock counts
	if now.Before(w.built) {
		const day = "2006-01-02 15:04 MST"
		return Verdict{Until: now.Add(doubt), Message: fmt.Sprintf(
			"the clock of this node says %s, before this program was built (%s): pull windows wait until it is right", now.UTC().Format(day), w.built.UTC().Format(day))}
	}
	if end := w.end(now); end.After(now) {
		return Verdict{Open: true, Until: end}
	}
	next := w.next(now)
	return Verdict{Until: next, Message: "outside of the pull windows: the next one opens at " + next.UTC().Format(time.RFC3339)}
}

// end is when the windows that are open at a time, and those that follow them without a
// gap, are over: the time itself when none is open. More than maxDuration ahead is not
// looked.
func (w *Windows) end(now time.Time) time.Time {
	end := now
	for again := true; again && end.Sub(now) < maxDuration; {
		again = false
		for i := range w.all {
			if e := w.all[i].end(end); e.After(end) {
				end, again = e, true
			}
		}
	}
	return end
}

// end is when the last opening that a time falls into is over, zero if it falls in none.
func (w *window) end(at time.Time) (end time.Time) {
	for s := w.opens.Next(at.Add(-w.lasts).In(w.zone)); !s.IsZero() && !s.After(at); s = w.opens.Next(s) {
		end = s.Add(w.lasts)
	}
	return end
}

func (w *Windows) next(now time.Time) time.Time {
	var next time.Time
	for i := range w.all {
		if s := w.all[i].opens.Next(now.In(w.all[i].zone)); !s.IsZero() && (next.IsZero() || s.Before(next)) {
			next = s
		}
	}
	return next
}
