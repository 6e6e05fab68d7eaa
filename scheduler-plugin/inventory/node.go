package inventory

import (
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is one node. It stays the same object while the node is known.
type Node struct {
	Name string

	number int
	facts  atomic.Pointer[facts]  // nil: no agent tells
	flight atomic.Pointer[flight] // nil: nothing is on its way
	site   atomic.Pointer[site]   // nil: in no site
}

// facts are what an agent last told of its node, for estimates. They are never changed, only replaced.
type facts struct {
	fresh      bool
	platform   int // index among the platforms of all nodes
	registries []registry
	unpack     int64 // bytes per second, 0 unknown
	room       int64 // bytes that more images may take; -1 unknown
	noSandbox  bool  // no pod starts without a registry
	verifies   bool  // the kubelet asks registries about images that are there
}

// registry is a node's link to one registry.
type registry struct {
	host           string
	down           bool
	bytesPerSecond int64
}

func (f *facts) down(host string) bool {
	for i := range f.registries {
		if f.registries[i].down && f.registries[i].host == host {
			return true
		}
	}
	return false
}

// speed gives what was measured to the host, 0 where nothing was.
func speed(registries []registry, host string) int64 {
	for i := range registries {
		if registries[i].host == host {
			return registries[i].bytesPerSecond
		}
	}
	return 0
}

// site is what nodes at one place share.
type site struct {
	ahead  atomic.Int64               // bytes on their way over the site's uplink
	speeds atomic.Pointer[[]registry] // medians of its nodes
}

func (s *site) speed(host string) int64 {
	if s == nil {
		return 0
	}
	if measured := s.speeds.Load(); measured != nil {
		return speed(*measured, host)
	}
	return 0
}

// record is all that is remembered of a node, guarded by Inventory.mu.
type record struct {
	*Node

	// From its Node object.
	exists bool
	uid    types.UID
	ready  bool

	// From its NodeImageCache.
	told      bool
	nodeUID   types.UID // the Node that it was written for
	heartbeat bool      // the Node's Ready condition stands for the agent
	names     []*name   // held
	lazy      []*name
	images    []*image // held
	wishes    []wish
	facts     *facts // as told, without freshness
	pulls     []pulling

	// From its Lease.
	lease lease
}

// wish is what one node's spec says of one name.
type wish struct {
	name   *name
	digest string
}

// lease is when an agent was last heard of, by the clock here.
type lease struct {
	written  time.Time
	seen     time.Time
	duration time.Duration
}

// heard says whether there is a sign that the agent is there. A status that was written for a Node of the same name that
// is gone says nothing about this one.
func (r *record) heard(now time.Time) bool {
	if r.nodeUID != "" && r.uid != "" && r.nodeUID != r.uid {
		return false
	}
	return now.Before(r.lease.seen.Add(r.lease.duration)) || (r.heartbeat && r.ready)
}

// expected says whether the agent should be heard of: its object is there, and the Node is not dark.
func (r *record) expected() bool { return r.told && (r.ready || !r.exists) }

func nodeReady(node *corev1.Node) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
