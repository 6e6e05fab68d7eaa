// Package keyloop is the one loop that all of the controller's reconcilers share: take a
// key from a rate-limited queue, bring the world in line with what the key names, and
// come back later where that is asked for or failed.
//
// It owns retries and their pace; it knows nothing of what a key means. A key is worked
// on by one worker at a time, and a key added while it is being worked on is worked on
// once more.
//
// Failure model: an error puts the key back with exponential backoff (and forgets it at
// the next success); a conflict with another writer puts it back after a moment, as the
// informer is only behind; a panic is logged and counts as an error.
package keyloop

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

const (
	// baseDelay and maxDelay bound the backoff of a failing key: the first retry comes
	// within a second, and a key that goes on failing costs twelve attempts an hour.
	baseDelay = 500 * time.Millisecond
	maxDelay  = 5 * time.Minute
	// conflictDelay lets the informer catch up with the write that won.
	conflictDelay = 100 * time.Millisecond
)

// Func brings the world in line with what a key names. A positive duration asks for
// another call after that time.
type Func[K comparable] func(ctx context.Context, key K) (again time.Duration, err error)

// Sooner gives the shorter of two durations as Func returns them, 0 meaning none.
func Sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Loop works on the keys that are added to it.
type Loop[K comparable] struct {
	name  string
	sync  Func[K]
	queue workqueue.TypedRateLimitingInterface[K]
}

// New makes a loop. The name appears in logs and in the queue's metrics.
func New[K comparable](name string, sync Func[K]) *Loop[K] {
	return &Loop[K]{
		name: name,
		sync: sync,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[K](baseDelay, maxDelay),
			workqueue.TypedRateLimitingQueueConfig[K]{Name: name},
		),
	}
}

// Add asks for a key to be worked on soon. Adding a key that already waits costs nothing.
func (l *Loop[K]) Add(key K) { l.queue.Add(key) }

// AddAfter asks for a key to be worked on after a delay, or sooner if it is added
// otherwise.
func (l *Loop[K]) AddAfter(key K, delay time.Duration) { l.queue.AddAfter(key, delay) }

// Run works with the given number of workers until the context ends, then returns when
// the keys being worked on are done.
func (l *Loop[K]) Run(ctx context.Context, workers int) {
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithName(l.name))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for l.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	wg.Wait()
}

func (l *Loop[K]) next(ctx context.Context) bool {
	key, down := l.queue.Get()
	if down {
		return false
	}
	defer l.queue.Done(key)
	if ctx.Err() != nil {
		return false
	}
	again, err := l.call(ctx, key)
	l.settle(ctx, key, again, err)
	return true
}

func (l *Loop[K]) call(ctx context.Context, key K) (again time.Duration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return l.sync(ctx, key)
}

func (l *Loop[K]) settle(ctx context.Context, key K, again time.Duration, err error) {
	switch {
	case err == nil:
		l.queue.Forget(key)
		if again > 0 {
			l.queue.AddAfter(key, again)
		}
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		l.queue.AddAfter(key, conflictDelay)
	case ctx.Err() != nil:
	default:
		klog.FromContext(ctx).Error(err, "Reconciling failed, trying again", "key", key, "failures", l.queue.NumRequeues(key)+1)
		l.queue.AddRateLimited(key)
	}
}
