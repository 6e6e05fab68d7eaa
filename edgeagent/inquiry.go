package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"
	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/store"
)

const (
	// askTimeout bounds one question to a registry, its token server included.
	askTimeout = 2 * time.Minute
	// askJitter spreads periodic questions by this share of the time between them.
	askJitter = 0.1
)

// inquiry is the question what one tag stands for: being asked, or waiting for its turn.
type inquiry struct {
	ask      plan.Ask // as it was asked last, or is to be asked first
	failures int32
	reason   string    // of the last failure, "" after an answer
	next     time.Time // not before; zero means now
	due      time.Time // of the next periodic question; zero when there is none
	waits    bool      // for its registry, which is down

	// While being asked:
	cancel context.CancelFunc // nil when not
	found  digest.Digest      // written by the question before it reports back, as is err
	err    error
}

// inquire asks registries what is owed or due, and says when there is more to ask.
func (a *Agent) inquire(ctx context.Context) time.Time {
	now := time.Now()
	next := now.Add(a.poll())
	wanted := map[string]bool{}
	var ready []turn
	clear(a.gate.asks)
	for i := range a.steps.Asks {
		ask := &a.steps.Asks[i]
		name := ask.Ref.String()
		wanted[name] = true
		q := a.inquiry(name, ask, now)
		withheld := a.withhold(ask, q, now)
		at := q.turn(ask)
		switch {
		case q.cancel != nil || at.IsZero() || withheld:
		case now.Before(at):
			next = earlier(next, at)
		default:
			ready = append(ready, turn{at, func() { a.question(ctx, name, q, ask) }})
		}
	}
	takeTurns(ready, a.options.Workers-a.asking())
	for name, q := range a.inquiries {
		switch {
		case wanted[name]:
		case q.cancel != nil:
			q.cancel()
		default:
			delete(a.inquiries, name)
		}
	}
	return next
}

// inquiry finds the question for a tag. One that is for another token than before does not
// wait for what went wrong with that.
func (a *Agent) inquiry(name string, ask *plan.Ask, now time.Time) *inquiry {
	q := a.inquiries[name]
	if q == nil {
		q = &inquiry{ask: *ask}
		if f := a.ledger[name].Failure; f != nil && f.Digest == "" {
			q.failures = f.Attempts
		}
		a.inquiries[name] = q
	}
	if q.cancel == nil && q.ask.Token != ask.Token {
		q.ask.Token, q.failures, q.reason, q.next = ask.Token, 0, "", time.Time{}
	}
	switch {
	case ask.Every <= 0:
		q.due = time.Time{}
	case q.due.IsZero() || q.ask.Every != ask.Every:
		q.due = now.Add(rand.N(ask.Every) + 1) // anywhere: agents start together
	}
	q.ask.Every = ask.Every
	return q
}

// turn is when the registry is to be asked: zero for not at all, a time that is past for
// now.
func (q *inquiry) turn(ask *plan.Ask) time.Time {
	switch {
	case ask.Now && q.next.IsZero():
		return time.Unix(0, 0)
	case ask.Now:
		return q.next
	}
	return q.due
}

func (a *Agent) asking() int {
	n := 0
	for _, q := range a.inquiries {
		if q.cancel != nil {
			n++
		}
	}
	return n
}

func (a *Agent) question(ctx context.Context, name string, q *inquiry, ask *plan.Ask) {
	ctx, q.cancel = context.WithTimeout(ctx, askTimeout)
	q.ask = *ask
	a.wg.Go(func() {
		q.found, q.err = a.digestOf(ctx, ask.Ref)
		a.tell(func(in *inbox) { in.told = append(in.told, name) })
	})
}

func (a *Agent) digestOf(ctx context.Context, name imageref.Reference) (digest.Digest, error) {
	if a.options.Resolver == nil {
		return "", &fetch.Error{Reason: fetch.RegistryError, Err: errors.New("this agent cannot ask registries what a tag stands for")}
	}
	d, err := a.options.Resolver.Digest(ctx, name)
	if errors.Is(err, context.DeadlineExceeded) {
		err = &fetch.Error{Reason: fetch.NetworkError, Host: name.Registry(), Err: fmt.Errorf("no answer within %s", askTimeout)}
	}
	return d, err
}

// hearRegistry takes note of how a question ended.
func (a *Agent) hearRegistry(ctx context.Context, name string) {
	q := a.inquiries[name]
	if q == nil || q.cancel == nil {
		return
	}
	cancelled := errors.Is(q.err, context.Canceled)
	q.cancel()
	q.cancel = nil
	if q.ask.Every > 0 {
		spread := time.Duration(float64(q.ask.Every) * askJitter)
		q.due = time.Now().Add(q.ask.Every - spread + rand.N(2*spread+1))
	}
	switch {
	case q.err == nil:
		a.answered(ctx, name, q)
	case cancelled:
	default:
		a.refused(ctx, name, q)
	}
}

// answered remembers what a registry gave. That it gives what is known is not worth a write.
func (a *Agent) answered(ctx context.Context, name string, q *inquiry) {
	q.failures, q.reason, q.next = 0, "", time.Time{}
	entry := a.ledger[name]
	said, news := q.ask.Answer(entry.Resolved, q.found)
	if !news {
		return
	}
	klog.FromContext(ctx).Info("Tag looked up", "image", name, "digest", q.found, "wished", q.ask.Wished)
	entry.Name, entry.Resolved = name, said
	if entry.Failure != nil && entry.Failure.Digest == "" {
		entry.Failure = nil
	}
	a.remember(ctx, []store.Entry{entry}, nil)
}

// refused notes that a registry gave no answer. It changes nothing of what is known; an
// image without a digest is failing.
func (a *Agent) refused(ctx context.Context, name string, q *inquiry) {
	q.failures++
	reason, wait := verdict(q.err, q.failures)
	q.reason, q.next = reason, time.Now().Add(wait)
	klog.FromContext(ctx).Info("Tag not looked up, trying again", "image", name, "reason", reason, "err", q.err, "attempts", q.failures, "in", wait.Round(time.Second))
	if q.ask.Wished == "" {
		a.rememberFailure(ctx, name, store.Failure{Reason: reason, Message: report.Cut(q.err.Error()), Attempts: q.failures})
	}
}

// unanswered says why tokens were not answered, by image: since the token is the present
// one, unlike what an image without a digest fails with. Other questions that fail say
// nothing.
func (a *Agent) unanswered() map[string]string {
	reasons := map[string]string{}
	for i := range a.steps.Asks {
		ask := &a.steps.Asks[i]
		if q := a.inquiries[ask.Ref.String()]; q != nil && ask.Now && ask.Token != "" && q.reason != "" && q.ask.Token == ask.Token {
			reasons[ask.Ref.String()] = q.reason
		}
	}
	return reasons
}
