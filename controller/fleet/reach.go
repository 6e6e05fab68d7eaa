package fleet

import (
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/v1alpha1"
)

// Reach says whether a node can be expected to act now.
type Reach string

// Reach values.
const (
	// Connected: its agent renews its Lease, or lives with a Node that is Ready.
	Connected Reach = "Connected"
	// Unreachable: neither is the Node Ready nor does its agent renew its Lease. Its
	// last known state stands.
	Unreachable Reach = "Unreachable"
	// NoAgent: the Node is Ready and shows no sign of an agent.
	NoAgent Reach = "NoAgent"
)

// ReachOf decides from the Node's Ready condition, the freshness of its agent's Lease and
// what the agent says to live by. object may be nil.
func ReachOf(node *corev1.Node, leaseFresh bool, object *v1alpha1.NodeImageCache) Reach {
	switch {
	case leaseFresh:
		return Connected
	case !Ready(node):
		return Unreachable
	case object != nil && object.Status.Heartbeat == v1alpha1.HeartbeatNode:
		return Connected
	}
	return NoAgent
}

// Ready says whether the Node's Ready condition is True.
func Ready(node *corev1.Node) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// defaultLeaseDuration holds for Leases that do not say how long they last.
const defaultLeaseDuration = 10 * time.Minute

// LeaseClock tells fresh Leases from stale ones by when their renewals were seen, not by
// the times written in them: nodes without a real-time clock write wrong times. Only for
// a Lease seen for the first time is the written time taken into account, so that after
// a restart of the controller a node that is long dark is not taken for connected.
type LeaseClock struct {
	mu    sync.Mutex
	nodes map[string]renewal // guarded by mu
}

type renewal struct {
	written  time.Time
	seen     time.Time
	duration time.Duration
}

// NewLeaseClock makes a clock that has seen no Lease.
func NewLeaseClock() *LeaseClock {
	return &LeaseClock{nodes: map[string]renewal{}}
}

// Observe takes note of a Lease as it stands now.
func (c *LeaseClock) Observe(lease *coordinationv1.Lease, now time.Time) {
	r := renewal{seen: now, duration: defaultLeaseDuration}
	if lease.Spec.RenewTime != nil {
		r.written = lease.Spec.RenewTime.Time
	}
	if s := lease.Spec.LeaseDurationSeconds; s != nil {
		r.duration = time.Duration(*s) * time.Second
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.nodes[lease.Name]
	switch {
	case known && before.written.Equal(r.written):
		r.seen = before.seen
	case !known && r.written.Before(now):
		r.seen = r.written
	}
	c.nodes[lease.Name] = r
}

// Forget drops the Lease of a node.
func (c *LeaseClock) Forget(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, node)
}

// Fresh says whether the node's agent renewed its Lease in time, and if so for how long
// that holds.
func (c *LeaseClock) Fresh(node string, now time.Time) (fresh bool, left time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.nodes[node]
	if !ok {
		return false, 0
	}
	left = r.seen.Add(r.duration).Sub(now)
	return left > 0, max(left, 0)
}

// Reaches remembers how each node could be reached last, to notice changes.
type Reaches struct {
	mu    sync.Mutex
	nodes map[string]Reach // guarded by mu
}

// NewReaches makes an empty memory.
func NewReaches() *Reaches {
	return &Reaches{nodes: map[string]Reach{}}
}

// Note takes in how a node can be reached now and says whether that is news.
func (r *Reaches) Note(node string, now Reach) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.nodes[node]
	r.nodes[node] = now
	return before != now
}

// Forget drops a node.
func (r *Reaches) Forget(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.nodes, node)
}

// Len is the number of nodes known.
func (r *Reaches) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.nodes)
}
