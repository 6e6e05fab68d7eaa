package report

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"edgecache.dev/internal/pause"
)

const (
	// LeaseDuration is how long the agent counts as connected after a renewal. Long,
	// because 50,000 agents renew: what must be noticed sooner is the Node's condition.
	LeaseDuration = 10 * time.Minute
	// renewEvery leaves room for two lost renewals. It is jittered by a quarter.
	renewEvery = 3 * time.Minute
)

// LeaseRenewer renews the agent's Lease.
type LeaseRenewer interface {
	RenewLease(ctx context.Context, duration time.Duration, now time.Time) error
}

// Heartbeat renews the agent's Lease until the context ends.
func Heartbeat(ctx context.Context, r LeaseRenewer) {
	retry := newBackoff()
	for {
		delay := wait.Jitter(renewEvery, 0.25)
		if err := r.RenewLease(ctx, LeaseDuration, time.Now()); err != nil {
			delay = retry.Step()
			complain(ctx, err, "Lease not renewed")
		} else {
			retry = newBackoff()
		}
		if !pause.For(ctx, delay) {
			return
		}
	}
}
