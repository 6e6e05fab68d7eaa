package edgeagent

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"edgecache.dev/edgeagent/store"
)

// A memory card wears out: however often things change, they are written at most 2,000
// times a day. What waits for its turn is known to this process, and lost only with it.
const (
	writeEvery = 50 * time.Second
	writeBurst = 200
)

// maxNotes bounds what waits to be written to the journal, which keeps no more either.
const maxNotes = 256

// debts is what was not written to the store yet.
type debts struct {
	desired bool
	names   map[string]bool // ledger entries, changed or dropped
	notes   []store.Record
	boot    string
}

func (d *debts) any() bool {
	return d.desired || len(d.names) > 0 || len(d.notes) > 0 || d.boot != ""
}

// remember takes ledger changes in and stores them. A store that cannot be written costs
// knowledge at the next start, not the work now; it is tried again at each pass.
func (a *Agent) remember(ctx context.Context, save []store.Entry, drop []string) {
	for _, e := range save {
		a.ledger[e.Name] = e
		a.owes.names[e.Name] = true
	}
	for _, name := range drop {
		delete(a.ledger, name)
		a.owes.names[name] = true
	}
	a.settleDebts(ctx)
}

// settleDebts writes what is owed to the store. A new wish never waits for its turn.
func (a *Agent) settleDebts(ctx context.Context) {
	reopened, err := a.memory.Mend()
	if reopened {
		a.oweAll()
	}
	if a.owes.any() && (a.owes.desired || a.card.Allow()) {
		err = a.payDebts()
	}
	a.trouble.note(ctx, withStore, err, "Store not written, working on all the same")
}

// oweAll has everything stored that is known: what is stored already costs no write.
func (a *Agent) oweAll() {
	a.owes.desired, a.owes.boot = true, a.options.BootID
	for name := range a.ledger {
		a.owes.names[name] = true
	}
}

// payDebts writes what is owed, if anything is.
func (a *Agent) payDebts() error {
	if !a.owes.any() {
		return nil
	}
	a.oweUses()
	change := store.Change{Notes: a.owes.notes, Boot: a.owes.boot}
	if a.owes.desired {
		change.Desired = &a.desired
	}
	for name := range a.owes.names {
		if e, ok := a.ledger[name]; ok {
			change.Save = append(change.Save, e)
		} else {
			change.Drop = append(change.Drop, name)
		}
	}
	err := a.memory.Write(change)
	if err == nil {
		a.owes = debts{names: map[string]bool{}}
	}
	return err
}

// payLast writes before the end what waits for its turn.
func (a *Agent) payLast() {
	if err := a.payDebts(); err != nil {
		klog.Background().Info("Not stored before the end", "err", err)
	}
}
