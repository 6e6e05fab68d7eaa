package edgeagent

import (
	"context"

	"edgecache.dev/edgeagent/store"
)

// debts is what was not written to the store yet.
type debts struct {
	desired bool
	names   map[string]bool // ledger entries, changed or dropped
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

// settleDebts writes what is owed to the store.
func (a *Agent) settleDebts(ctx context.Context) {
	if !a.owes.desired && len(a.owes.names) == 0 {
		return
	}
	err := a.write()
	if err == nil {
		a.owes = debts{names: map[string]bool{}}
	}
	a.trouble.note(ctx, withStore, err, "Store not written, working on all the same")
}

func (a *Agent) write() error {
	a.oweUses()
	if a.owes.desired {
		if err := a.memory.PutDesired(a.desired); err != nil {
			return err
		}
	}
	var save []store.Entry
	var drop []string
	for name := range a.owes.names {
		if e, ok := a.ledger[name]; ok {
			save = append(save, e)
		} else {
			drop = append(drop, name)
		}
	}
	return a.memory.Save(save, drop)
}
