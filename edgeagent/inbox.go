package edgeagent

import (
	"context"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/store"
)

// inbox is what other goroutines tell the agent.
type inbox struct {
	object *v1alpha1.NodeImageCache
	heard  bool // object was heard, nil included
	ended  []string
	told   []string // names whose inquiry ended
	pleas  []*plea  // attempts that ask for room
	notes  []store.Record
	look   bool // the runtime changed

	trouble *error // with the source of the wish, nil where nothing was told
}

// Hear takes in how the node's object stands; nil when there is none. It does not block.
func (a *Agent) Hear(object *v1alpha1.NodeImageCache) {
	a.tell(func(in *inbox) { in.object, in.heard = object, true })
}

// Look asks the agent to look at the runtime again.
func (a *Agent) Look() { a.tell(func(in *inbox) { in.look = true }) }

func (a *Agent) tell(put func(*inbox)) {
	a.inboxMu.Lock()
	put(&a.inbox)
	a.inboxMu.Unlock()
	select {
	case a.mail <- struct{}{}:
	default:
	}
}

func (a *Agent) collect() inbox {
	a.inboxMu.Lock()
	defer a.inboxMu.Unlock()
	in := a.inbox
	a.inbox = inbox{}
	return in
}

// take acts on what other goroutines told. It says whether the runtime is to be looked at:
// not for a question that told nothing new, of which there may be hundreds an hour.
func (a *Agent) take(ctx context.Context, in inbox) (look bool) {
	defer a.pulse.turn()()
	for _, name := range in.ended {
		a.settle(ctx, name)
	}
	a.space.pleas = append(a.space.pleas, in.pleas...)
	look = in.look || in.heard || len(in.ended) > 0 || len(in.pleas) > 0
	for _, r := range in.notes {
		a.note(r)
	}
	if len(in.notes) > 0 {
		a.settleDebts(ctx)
	}
	for _, name := range in.told {
		before := a.ledger[name].Resolved
		a.hearRegistry(ctx, name)
		look = look || a.ledger[name].Resolved != before
	}
	if in.trouble != nil {
		a.trouble.note(ctx, withSource, *in.trouble, "The wish is not read as it stands, what was read before counts")
	}
	if !in.heard {
		return look
	}
	a.object = in.object
	a.desired = plan.Hear(a.desired, in.object)
	a.owes.desired = true
	a.settleDebts(ctx)
	a.hearCredentials()
	return look
}
