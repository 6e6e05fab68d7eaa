// Package quiet makes a logger that says the same failure less and less often: a node that
// is cut off for weeks fails at the same things every few minutes, and its log lies on an
// SD card.
//
// It owns nothing but what was said lately. Which lines are failures: errors, and infos with
// an "err" or, for the end of one, a "was". All others, what changes, go through.
//
// Invariants: the first line of a subject goes through, the next after 10 minutes, then 20,
// 40, and from then on hourly; a subject that was not heard of for two hours is new. A
// subject is a message together with the image, host or name that it is about. All subjects
// together may say 100 lines, and one a minute after those. A line says how many of its
// subject were left out before it.
//
// Concurrency: a logger may be used from any goroutine.
package quiet

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
)

const (
	// firstGap and lastGap are the least time between lines of one subject; it doubles.
	firstGap, lastGap = 10 * time.Minute, time.Hour
	// forget is how long a subject must not have been heard of to be new.
	forget = 2 * lastGap
	// burst and every bound what all subjects say together.
	burst, every = 100, time.Minute
	// most is how many subjects are remembered: a node has 1,000 images at most.
	most = 4096
)

// Logger gives a logger that writes by another one.
func Logger(by logr.Logger) logr.Logger {
	sink := by.GetSink()
	if deeper, ok := sink.(logr.CallDepthLogSink); ok {
		sink = deeper.WithCallDepth(1) // ours
	}
	return logr.New(&quieter{to: sink, said: &said{
		subjects: map[string]*subject{}, all: rate.NewLimiter(rate.Every(every), burst),
	}})
}

// quieter is a sink that asks before it writes.
type quieter struct {
	to    logr.LogSink
	said  *said
	about string // by WithValues
}

var _ logr.CallDepthLogSink = (*quieter)(nil)

// Init does nothing: the sink below was set up by its own logger.
func (q *quieter) Init(logr.RuntimeInfo) {}

// Enabled asks the sink below.
func (q *quieter) Enabled(level int) bool { return q.to.Enabled(level) }

// Info writes what is no failure, or is worth saying again.
func (q *quieter) Info(level int, msg string, kv ...any) {
	if !isFailure(kv) {
		q.to.Info(level, msg, kv...)
		return
	}
	if left, ok := q.said.worth(msg + q.about + about(kv)); ok {
		q.to.Info(level, msg, with(kv, left)...)
	}
}

// Error writes what is worth saying again.
func (q *quieter) Error(err error, msg string, kv ...any) {
	if left, ok := q.said.worth(msg + q.about + about(kv)); ok {
		q.to.Error(err, msg, with(kv, left)...)
	}
}

// WithValues gives a sink that has what was said in common with this one.
func (q *quieter) WithValues(kv ...any) logr.LogSink {
	return &quieter{to: q.to.WithValues(kv...), said: q.said, about: q.about + about(kv)}
}

// WithName gives a sink that has what was said in common with this one.
func (q *quieter) WithName(name string) logr.LogSink {
	return &quieter{to: q.to.WithName(name), said: q.said, about: q.about}
}

// WithCallDepth gives a sink that has what was said in common with this one.
func (q *quieter) WithCallDepth(depth int) logr.LogSink {
	to := q.to
	if deeper, ok := to.(logr.CallDepthLogSink); ok {
		to = deeper.WithCallDepth(depth)
	}
	return &quieter{to: to, said: q.said, about: q.about}
}

func isFailure(kv []any) bool {
	for i := 0; i < len(kv); i += 2 {
		if kv[i] == "err" || kv[i] == "was" {
			return true
		}
	}
	return false
}

// about gives what of a line's values tells its subject from others of the same message.
func about(kv []any) string {
	var text strings.Builder
	for i := 0; i+1 < len(kv); i += 2 {
		switch kv[i] {
		case "image", "host", "name":
			fmt.Fprintf(&text, "\x00%v", kv[i+1])
		}
	}
	return text.String()
}

func with(kv []any, left int) []any {
	if left == 0 {
		return kv
	}
	return append(slices.Clip(kv), "leftOut", left)
}

// said is what was said lately.
type said struct {
	mu       sync.Mutex          // guards what follows
	subjects map[string]*subject // by message and what it is about
	all      *rate.Limiter
}

type subject struct {
	heard, logged time.Time
	gap           time.Duration
	left          int // out, since the last line
}

// worth says whether a line is to be written, and how many of its subject were not.
func (s *said) worth(key string) (left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, known := time.Now(), s.subjects[key]
	if known == nil || now.Sub(known.heard) > forget {
		if len(s.subjects) >= most {
			clear(s.subjects)
		}
		known = &subject{}
		s.subjects[key] = known
	}
	known.heard = now
	if !known.logged.IsZero() && now.Sub(known.logged) < known.gap || !s.all.Allow() {
		known.left++
		return 0, false
	}
	left, known.left = known.left, 0
	known.logged, known.gap = now, min(max(2*known.gap, firstGap), lastGap)
	return left, true
}
