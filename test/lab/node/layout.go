package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"edgecache.dev/test/lab/process"
)

const (
	// beat is the time between two heartbeats, as a kubelet has it.
	beat = 10 * time.Second
	// retry is the time after a heartbeat that failed, say because the API server is stopped.
	retry = time.Second
	// powerOnTimeout bounds the wait for a control plane that takes heartbeats, on a busy machine.
	powerOnTimeout = 3 * time.Minute
	// call bounds one heartbeat's calls.
	call = 5 * time.Second
	// leaseDuration is what a kubelet writes into its Lease.
	leaseDuration = 40 * time.Second
)

// errOff says that the node is off.
var errOff = errors.New("the node is off")

// Layout is a host without a machine: programs run as children of the lab's process, and the lab itself keeps the Node
// object.
type Layout struct {
	keeper *keeper

	mu     sync.Mutex // guards what follows
	on     bool
	cancel context.CancelFunc
	done   chan struct{}
}

var _ Host = (*Layout)(nil)

// NewLayout returns the host of a layout node. client must be allowed everything; alone says that no controller manager
// runs, so that the lab does what that one does to Node objects.
func NewLayout(s Spec, client kubernetes.Interface, alone bool) *Layout {
	return &Layout{keeper: newKeeper(s, client, alone)}
}

// Start runs a program as a child of this process. See process.Starter.
func (l *Layout) Start(c process.Command) (process.Running, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.on {
		return nil, fmt.Errorf("starting %s: %w", c.Name, errOff)
	}
	return process.Host{}.Start(c)
}

// PowerOn makes the Node object, if it is not there, and keeps it Ready from now on.
func (l *Layout) PowerOn(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on {
		return nil
	}
	if err := l.speak(ctx); err != nil {
		return err
	}
	l.on = true
	if l.cancel == nil {
		var loop context.Context
		loop, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
		l.done = make(chan struct{})
		go l.loop(loop, l.done)
	}
	return nil
}

// speak registers the node and sends its first heartbeat.
func (l *Layout) speak(ctx context.Context) error {
	if err := l.keeper.register(ctx); err != nil {
		return err
	}
	l.keeper.setSpeaking(true)
	var failed error
	// A new control plane makes the namespace of the Leases only a moment after it says that it is ready.
	err := wait.PollUntilContextTimeout(ctx, retry/10, powerOnTimeout, true, func(ctx context.Context) (bool, error) {
		failed = l.keeper.beat(ctx)
		return failed == nil, nil
	})
	if err != nil {
		return fmt.Errorf("sending the first heartbeat: %w: %w", err, failed)
	}
	return nil
}

// loop sends heartbeats until ctx ends. It goes on while the node is off, to say that it is, if that is its task.
func (l *Layout) loop(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		// Before the heartbeat, so that a change during it is followed by another one at once.
		changed := l.keeper.changed()
		wait := beat
		// A heartbeat that has begun ends by itself: cut off, client-go would log an error.
		if err := l.keeper.beatWithin(context.WithoutCancel(ctx), call); err != nil {
			wait = retry
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// PowerOff makes the node silent. Its programs are ended by Node.Stop.
func (l *Layout) PowerOff() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on = false
	l.keeper.setSpeaking(false)
	return nil
}

// PauseHeartbeat makes the node silent, or lets it speak again, while its programs run on.
func (l *Layout) PauseHeartbeat(pause bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.on {
		return errOff
	}
	l.keeper.setSpeaking(!pause)
	return nil
}

// IP returns the loopback address: all layout nodes share it.
func (l *Layout) IP() string { return "127.0.0.1" }

// Close ends the heartbeats' loop.
func (l *Layout) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on = false
	if l.cancel != nil {
		l.cancel()
		<-l.done
		l.cancel = nil
	}
	return nil
}
