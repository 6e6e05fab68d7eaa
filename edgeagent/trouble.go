package edgeagent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"edgecache.dev/edgeagent/report"
)

// matter is what the agent can have trouble with.
type matter int

const (
	withRuntime     matter = iota // it does not answer
	withUse                       // which images containers use is not known
	withTidying                   // images are not removed or let go
	withStore                     // it cannot be written
	withCredentials               // some cannot be opened
	withSource                    // the wish cannot be read, or not all of it
	withDisk                      // free space is not known
	withRoom                      // images are not weighed or given up for others

	matters // how many there are
)

// trouble is what keeps the agent from doing all it should. The zero value is none.
type trouble struct {
	now [matters]problem
}

type problem struct {
	err    error // nil when all is well
	logged time.Time
}

// logEvery is how often trouble that lasts is logged: a runtime that is away for a day is
// asked every few seconds.
const logEvery = 10 * time.Minute

// note takes in how an attempt ended; nil is well. What is new is logged, and what lasts
// from time to time.
func (t *trouble) note(ctx context.Context, with matter, err error, message string) {
	if ctx.Err() != nil {
		return
	}
	p, log := &t.now[with], klog.FromContext(ctx)
	err = brief(err)
	switch {
	case err == nil && p.err == nil:
	case err == nil:
		log.Info("Trouble is over", "was", p.err.Error())
		*p = problem{}
	case p.err != nil && p.err.Error() == err.Error() && time.Since(p.logged) < logEvery:
	default:
		log.Error(err, message)
		*p = problem{err: err, logged: time.Now()}
	}
}

// brief cuts an error that joins those of a thousand images to what can be logged and told.
func brief(err error) error {
	if err == nil || len(err.Error()) == len(report.Cut(err.Error())) {
		return err
	}
	return errors.New(report.Cut(err.Error()))
}

// String says what is wrong now, "" when nothing is.
func (t *trouble) String() string {
	var parts []string
	for _, p := range t.now {
		if p.err != nil && !slices.Contains(parts, p.err.Error()) {
			parts = append(parts, p.err.Error())
		}
	}
	return strings.Join(parts, "; ")
}

// HearTrouble takes in what is wrong with where the wish comes from; nil is nothing. It does
// not block.
func (a *Agent) HearTrouble(err error) {
	a.tell(func(in *inbox) { in.trouble = &err })
}
