package agent

import (
	"maps"
	"sync"

	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/store"
)

// memory is a store that outlives its agent, and not this process.
type memory struct {
	mu      sync.Mutex
	desired store.Desired          // guarded by mu
	found   bool                   // guarded by mu; desired was stored
	ledger  map[string]store.Entry // guarded by mu
}

var _ edgeagent.Memory = (*memory)(nil)

func newMemory() *memory { return &memory{ledger: map[string]store.Entry{}} }

// Desired gives the wish, and whether one was ever stored.
func (m *memory) Desired() (store.Desired, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.desired, m.found, nil
}

// PutDesired stores the wish.
func (m *memory) PutDesired(d store.Desired) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.desired, m.found = d, true
	return nil
}

// Ledger gives all entries by name.
func (m *memory) Ledger() (map[string]store.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.ledger), nil
}

// Save stores entries and drops names.
func (m *memory) Save(entries []store.Entry, drop []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.ledger[e.Name] = e
	}
	for _, name := range drop {
		delete(m.ledger, name)
	}
	return nil
}
