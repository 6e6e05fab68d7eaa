package inventory

// Gauges are figures of what is known, for metrics.
type Gauges struct {
	// Heard and Silent are the nodes whose agents are heard of, and those whose are not.
	Heard, Silent int
	// Contents is how many images' layers are known.
	Contents int
	// Promises is how many pods were placed whose images are still on their way.
	Promises int
	// Open says whether nothing is concluded from what agents told: see Healthy and Synced.
	Open bool
}

// Gauges counts.
func (v *Inventory) Gauges() Gauges {
	v.mu.RLock()
	defer v.mu.RUnlock()
	g := Gauges{Contents: len(v.contents), Promises: v.flights.count(), Open: !v.Synced() || !v.Healthy()}
	for _, r := range v.records {
		f := r.Node.facts.Load()
		switch {
		case f != nil && f.fresh:
			g.Heard++
		case r.told:
			g.Silent++
		}
	}
	return g
}
