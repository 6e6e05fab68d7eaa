package main

import (
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/leaderelection"

	"edgecache.dev/controller"
)

// leaseGrace is how long a leader may be unable to renew its Lease before it is unhealthy.
const leaseGrace = 20 * time.Second

// duty is what this replica is doing: standing by, or leading.
type duty struct {
	election *leaderelection.HealthzAdaptor
	work     atomic.Pointer[controller.Controller]
}

func newDuty() *duty {
	return &duty{election: leaderelection.NewLeaderHealthzAdaptor(leaseGrace)}
}

// health says why this replica should be started again.
func (d *duty) health() error { return d.election.Check(nil) }

// ready says why this replica cannot do its work. Standing by is work.
func (d *duty) ready() error {
	if c := d.work.Load(); c != nil {
		return c.Ready()
	}
	return nil
}
