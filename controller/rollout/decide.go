package rollout

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/util/intstr"

	"edgecache.dev/api/v1alpha1"
)

// Progress is how far a node is with a change.
type Progress int

const (
	// Waiting nodes were not let in.
	Waiting Progress = iota
	// Working nodes were let in and are not done.
	Working
	// Failed nodes were let in, failed, and go on trying.
	Failed
	// Done nodes hold everything.
	Done
)

// Node is one selected node.
type Node struct {
	Name string
	// Site is where the node stands, "" when that is not known.
	Site      string
	Connected bool
	Progress  Progress
	// Busy says that a waiting node still works on what it was let in to before. Until that
	// is done it holds a place, and keeps it when it is let in.
	Busy bool
}

// Limits bound a rollout.
type Limits struct {
	// Concurrent is how many nodes may be working, from 1.
	Concurrent int
	// FailurePercent is the share of the nodes let in that may have failed, 0 to 100.
	FailurePercent int
}

// LimitsOf reads the limits for a number of selected nodes. What is not given does not
// limit; a percentage of nodes is rounded up.
func LimitsOf(spec *v1alpha1.Rollout, nodes int) Limits {
	l := Limits{Concurrent: max(nodes, 1), FailurePercent: 100}
	if spec.MaxConcurrentNodes != nil {
		// The schema admits nothing that cannot be read.
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxConcurrentNodes, nodes, true)
		if err == nil {
			l.Concurrent = max(n, 1)
		}
	}
	if spec.MaxFailurePercent != nil {
		l.FailurePercent = int(*spec.MaxFailurePercent)
	}
	return l
}

// Decision is what a rollout does next.
type Decision struct {
	// LetIn are the names of the nodes let in now.
	LetIn []string
	// Waits is how many connected nodes wait besides those.
	Waits int
	// Tried is how many connected nodes were let in before, Failed how many of them failed.
	Tried, Failed int
	// Stopped says that too many failed: nobody is let in.
	Stopped bool
}

// site is how far one site is.
type site struct{ working, settled bool }

// Decide works out which nodes are let in next. Nodes that are not connected take no part.
func Decide(nodes []Node, limits Limits) Decision {
	var d Decision
	var waiting []Node
	sites := map[string]site{}
	working := 0
	for _, n := range nodes {
		if !n.Connected {
			continue
		}
		s := sites[n.Site]
		switch n.Progress {
		case Waiting:
			waiting = append(waiting, n)
			if n.Busy {
				working++
			}
			continue
		case Working:
			working++
			s.working = true
		case Failed:
			d.Failed++
			s.settled = true
		case Done:
			s.settled = true
		}
		d.Tried++
		sites[n.Site] = s
	}
	d.Stopped = len(waiting) > 0 && d.Failed*100 > limits.FailurePercent*d.Tried
	if !d.Stopped {
		d.LetIn = next(waiting, sites, limits.Concurrent-working)
	}
	d.Waits = len(waiting) - len(d.LetIn)
	return d
}

// next picks nodes as far as there are places: first of each site that has none, then of
// sites where one has shown how it goes. Busy nodes have their places already.
func next(waiting []Node, sites map[string]site, places int) []string {
	slices.SortFunc(waiting, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.place(), b.place()), cmp.Compare(a.Name, b.Name))
	})
	var first, rest []Node
	for _, n := range waiting {
		s := sites[n.Site]
		switch {
		case n.Site == "" || s.settled:
			rest = append(rest, n)
		case !s.working:
			first = append(first, n)
			sites[n.Site] = site{working: true}
		}
	}
	var in []string
	for _, n := range slices.Concat(first, rest) {
		if p := n.place(); p == 0 || p <= places {
			in = append(in, n.Name)
			places -= p
		}
	}
	return in
}

// place is how many places it takes to let a waiting node in.
func (n *Node) place() int {
	if n.Busy {
		return 0
	}
	return 1
}
