package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
)

// lockName is the Lease that the replicas contend for.
const lockName = "edgecache-controller"

// errLost ends a replica that lost the lead: another one may work now, and the state in
// this process may be old.
var errLost = errors.New("lost the lead: the lease could not be renewed in time")

// lead works while this replica leads. The lead is given up only when the work has ended,
// so that two replicas never work at the same time.
func lead(ctx context.Context, kube kubernetes.Interface, c *config, health *leaderelection.HealthzAdaptor, work func(context.Context) error) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("finding host name: %w", err)
	}
	election, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	t := term{ctx: ctx, end: end, work: work, over: make(chan struct{})}
	defer context.AfterFunc(ctx, t.leave)()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: lockName},
			Client:     kube.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
		},
		LeaseDuration: c.LeaseDuration, RenewDeadline: c.RenewDeadline, RetryPeriod: c.RetryPeriod,
		ReleaseOnCancel: true,
		Name:            lockName,
		WatchDog:        health,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: t.run,
			OnStoppedLeading: func() { klog.FromContext(ctx).Info("Not leading") },
		},
	})
	if err != nil {
		return fmt.Errorf("setting up leader election: %w", err)
	}
	elector.Run(election)
	return t.result()
}

// term is this replica's time as leader.
type term struct {
	ctx  context.Context //nolint:containedctx // the elector's callbacks get another one
	end  context.CancelFunc
	work func(context.Context) error
	led  atomic.Bool
	over chan struct{} // closed when work has ended
	err  error         // of work; read after over
}

// run works until the program ends or the lead is lost, then ends the election.
func (t *term) run(leading context.Context) {
	t.led.Store(true)
	defer t.end()
	defer close(t.over)
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	defer context.AfterFunc(leading, cancel)()
	t.err = t.work(ctx) //nolint:contextcheck // ends with the program and with the lead: both are parents
}

// leave ends the election of a replica that never led.
func (t *term) leave() {
	if !t.led.Load() {
		t.end()
	}
}

func (t *term) result() error {
	if !t.led.Load() {
		return nil
	}
	<-t.over
	if t.err == nil && t.ctx.Err() == nil {
		return errLost
	}
	return t.err
}

func rangeMessage(least, most int) string { return fmt.Sprintf("must be from %d to %d", least, most) }
