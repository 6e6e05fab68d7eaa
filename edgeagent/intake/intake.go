// Package intake listens to what the API server says of one node: it watches the node's
// own NodeImageCache by name and hands every state of it on.
//
// It owns the connection that is kept open for it and the pace of reconnecting; it stores
// nothing. It never lists the collection: watches by metadata.name are indexed by the API
// server, so that ten thousand of them cost an update next to nothing.
//
// Failure model: while the API server does not answer nothing is handed on, and nothing
// is taken for deleted. Reconnects back off from 2 s to 5 min, each at a random time, and
// after an outage of more than a minute wait up to a minute at random at least, so that a
// fleet that comes back does not come back in one second.
package intake

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"edgecache.dev/api/v1alpha1"
)

const (
	// firstRetry and lastRetry bound the pauses between reconnects.
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute
	// longOutage is how long the API server must have been away for smear to apply.
	longOutage = time.Minute
	// smear is the longest extra wait after a long outage.
	smear = time.Minute
)

// Listener hears what the API server says. A nil object says that there is none.
type Listener interface {
	Hear(object *v1alpha1.NodeImageCache)
}

// Watch keeps the listener up to date with the NodeImageCache of a node until the context
// ends. The client is one for the group edgecache.dev/v1alpha1.
func Watch(ctx context.Context, client rest.Interface, node string, to Listener) {
	lw := &spread{
		backoff: newBackoff(),
		ListWatch: cache.NewListWatchFromClient(client, "nodeimagecaches", v1alpha1.SystemNamespace,
			fields.OneTermEqualSelector(metav1.ObjectNameField, node)),
	}
	cache.NewReflectorWithOptions(lw, &v1alpha1.NodeImageCache{}, &sink{node: node, to: to}, cache.ReflectorOptions{
		Name: "nodeimagecache/" + node,
		// For a server that answers and ends each watch at once. It begins anew every
		// 2 minutes whatever happens, so that longer pauses are for spread.
		Backoff: new(newBackoff()),
	}).RunWithContext(ctx)
}

// newBackoff doubles and makes each pause up to twice as long at random, up to lastRetry.
func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: firstRetry, Cap: lastRetry / 2, Factor: 2, Jitter: 1, Steps: 9}
}

// sink takes the reflector's view of a collection of at most one object.
type sink struct {
	node string
	to   Listener
}

var _ cache.ReflectorStore = (*sink)(nil)

// Add hands on an object.
func (s *sink) Add(obj any) error { return s.Update(obj) }

// Update hands on an object.
func (s *sink) Update(obj any) error {
	nic, ok := obj.(*v1alpha1.NodeImageCache)
	if !ok {
		return fmt.Errorf("watching NodeImageCache %s: got %T", s.node, obj)
	}
	if nic.Name == s.node { // a server that ignores field selectors must not confuse us
		s.to.Hear(nic)
	}
	return nil
}

// Delete hands on that there is no object.
func (s *sink) Delete(obj any) error {
	if nic, ok := obj.(*v1alpha1.NodeImageCache); ok && nic.Name == s.node {
		s.to.Hear(nil)
	}
	return nil
}

// Replace hands on the object of a list, or that it has none.
func (s *sink) Replace(list []any, _ string) error {
	for _, obj := range list {
		if nic, ok := obj.(*v1alpha1.NodeImageCache); ok && nic.Name == s.node {
			s.to.Hear(nic)
			return nil
		}
	}
	s.to.Hear(nil)
	return nil
}

// Resync does nothing: the listener keeps what it heard.
func (s *sink) Resync() error { return nil }

// spread waits before it asks again: longer after each failure, and at random after a long
// outage.
type spread struct {
	*cache.ListWatch

	mu      sync.Mutex   // guards what follows
	since   time.Time    // of the first failure in a row, zero after a success
	next    time.Time    // not before
	backoff wait.Backoff // of the failures in a row
}

var _ cache.ListerWatcherWithContext = (*spread)(nil)

// ListWithContext waits if need be and lists.
func (s *spread) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	s.wait(ctx)
	obj, err := s.ListWatch.ListWithContext(ctx, options)
	s.note(err)
	return obj, err
}

// WatchWithContext waits if need be and watches.
func (s *spread) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	s.wait(ctx)
	w, err := s.ListWatch.WatchWithContext(ctx, options)
	s.note(err)
	return w, err
}

func (s *spread) wait(ctx context.Context) {
	t := time.NewTimer(s.pause())
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (s *spread) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		return 0
	}
	pause := max(time.Until(s.next), 0)
	if time.Since(s.since) > longOutage {
		pause = max(pause, rand.N(smear))
	}
	return pause
}

func (s *spread) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.since, s.backoff = time.Time{}, newBackoff()
		return
	}
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.next = time.Now().Add(s.backoff.Step())
}
