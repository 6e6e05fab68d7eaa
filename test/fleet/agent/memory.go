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

// Ledger gives all entries by name.
func (m *memory) Ledger() (map[string]store.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.ledger), nil
}

// Boot gives none: these nodes never boot.
func (m *memory) Boot() (string, error) { return "", nil }

// Mend finds nothing to mend.
func (m *memory) Mend() (bool, error) { return false, nil }

// Write stores what changed. There is no journal.
func (m *memory) Write(c store.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Desired != nil {
		m.desired, m.found = *c.Desired, true
	}
	for _, e := range c.Save {
		m.ledger[e.Name] = e
	}
	for _, name := range c.Drop {
		delete(m.ledger, name)
	}
	return nil
}
