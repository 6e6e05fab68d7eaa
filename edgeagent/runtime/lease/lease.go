package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/internal/clock"
)

const (
	// DefaultTTL is how long a lease lasts that nobody renews.
	DefaultTTL = 24 * time.Hour

	labelPull   = "edgecache.dev/pull"
	labelExpire = "containerd.io/gc.expire"

	// settleTimeout bounds the deleting of an old lease at the end of a use.
	settleTimeout = 10 * time.Second
)

// Keeper makes and finds leases.
type Keeper struct {
	// Manager is containerd's lease service. The namespace is that of the contexts.
	Manager leases.Manager
	// TTL is how long a lease lasts without renewal. Default 24 h.
	TTL time.Duration
}

// Lease holds what belongs to one digest. It may be used by several goroutines at once.
type Lease struct {
	keeper Keeper
	digest digest.Digest

	mu      sync.Mutex // guards what follows; held while containerd is asked
	current leases.Lease
	old     []leases.Lease // renewed, but not deleted yet
	uses    map[string]int // running uses by lease ID
}

// Take gives the lease of a digest, the one of an earlier process if there is one. No two
// Leases of one digest may be in use at once.
func (k Keeper) Take(ctx context.Context, d digest.Digest) (*Lease, error) {
	k.TTL = cmp.Or(k.TTL, DefaultTTL)
	l := &Lease{keeper: k, digest: d, uses: map[string]int{}}
	found, err := k.Manager.List(ctx, fmt.Sprintf("labels.%q==%q", labelPull, d))
	if err != nil {
		return nil, fmt.Errorf("looking for the lease of %s: %w", d, err)
	}
	slices.SortFunc(found, func(a, b leases.Lease) int { return b.CreatedAt.Compare(a.CreatedAt) })
	if len(found) > 0 {
		l.current, l.old = found[0], found[1:]
	}
	return l, nil
}

// Drop lets go of what earlier pulls of a digest hold. It says whether there was anything.
func (k Keeper) Drop(ctx context.Context, d digest.Digest) (bool, error) {
	l, err := k.Take(ctx, d)
	if err != nil || l.current.ID == "" {
		return false, err
	}
	return true, l.Release(ctx)
}

// Use gives a context under which content is kept. done ends the use.
func (l *Lease) Use(ctx context.Context) (leased context.Context, done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.renew(ctx, time.Now()); err != nil {
		return nil, nil, err
	}
	if err := l.settle(ctx); err != nil {
		return nil, nil, err
	}
	id := l.current.ID
	l.uses[id]++
	return leases.WithLease(ctx, id), sync.OnceFunc(func() { l.end(ctx, id) }), nil
}

// end ends a use, also when its context has ended. What fails now is done by the next use.
func (l *Lease) end(ctx context.Context, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uses[id]--; l.uses[id] == 0 {
		delete(l.uses, id)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	_ = l.settle(ctx)
}

// Renew makes a new lease whatever is left of the current one: after containerd said that
// the lease is gone.
func (l *Lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replace(ctx, time.Now())
}

// Release lets go of everything. What has a name by now stays, the rest is collected.
func (l *Lease) Release(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, old := range append(l.old, l.current) {
		if old.ID != "" {
			errs = append(errs, l.delete(ctx, old))
		}
	}
	l.old, l.current = nil, leases.Lease{}
	return errors.Join(errs...)
}

// renew makes a new lease when there is none or it has lived for a third of its time,
// under mu.
func (l *Lease) renew(ctx context.Context, now time.Time) error {
	if l.current.ID != "" && !due(l.current, l.keeper.TTL, now) {
		return nil
	}
	return l.replace(ctx, now)
}

// due says whether a lease is to be renewed. One that lies further in the future than any
// we write is left alone: either the clock was ahead when it was made, or it is behind now,
// and then a new one would expire the moment the clock is set.
func due(l leases.Lease, ttl time.Duration, now time.Time) bool {
	expires, err := time.Parse(time.RFC3339, l.Labels[labelExpire])
	if err != nil {
		return clock.IsSet(now) // made while the clock was not
	}
	return expires.Sub(now) < ttl*2/3
}

// labels of a lease that is made now. While the clock is not set it does not expire.
func (l *Lease) labels(now time.Time) map[string]string {
	labels := map[string]string{labelPull: l.digest.String()}
	if clock.IsSet(now) {
		labels[labelExpire] = now.Add(l.keeper.TTL).Format(time.RFC3339)
	}
	return labels
}

func (l *Lease) replace(ctx context.Context, now time.Time) error {
	made, err := l.keeper.Manager.Create(ctx,
		leases.WithID(fmt.Sprintf("edgecache-%s-%d", l.digest.Encoded(), now.UnixNano())),
		leases.WithLabels(l.labels(now)))
	if err != nil {
		return fmt.Errorf("making a lease for %s: %w", l.digest, err)
	}
	if l.current.ID != "" {
		if err := l.copy(ctx, l.current, made); err != nil {
			return err
		}
		l.old = append(l.old, l.current)
	}
	l.current = made
	return nil
}

// settle deletes old leases that nobody uses any more, under mu.
func (l *Lease) settle(ctx context.Context) error {
	var kept []leases.Lease
	var errs []error
	for _, old := range l.old {
		if l.uses[old.ID] > 0 {
			kept = append(kept, old)
			continue
		}
		err := l.copy(ctx, old, l.current)
		if err == nil {
			err = l.delete(ctx, old)
		}
		if err != nil {
			kept, errs = append(kept, old), append(errs, err)
		}
	}
	l.old = kept
	return errors.Join(errs...)
}

// copy adds what a lease holds to another one. A lease that is gone holds nothing.
func (l *Lease) copy(ctx context.Context, from, to leases.Lease) error {
	held, err := l.keeper.Manager.ListResources(ctx, from)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("renewing the lease of %s: %w", l.digest, err)
	}
	for _, r := range held {
		if err := l.keeper.Manager.AddResource(ctx, to, r); err != nil {
			return fmt.Errorf("renewing the lease of %s: %w", l.digest, err)
		}
	}
	return nil
}

func (l *Lease) delete(ctx context.Context, old leases.Lease) error {
	if err := l.keeper.Manager.Delete(ctx, old); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("deleting a lease of %s: %w", l.digest, err)
	}
	return nil
}

// Held is what a lease holds.
type Held struct {
	Content []digest.Digest // committed blobs
	Ingests []string        // references of ingests, some of which may be committed by now
}

// Holds asks what the lease holds at the moment.
func (l *Lease) Holds(ctx context.Context) (Held, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var held Held
	if l.current.ID == "" {
		return held, nil
	}
	all, err := l.keeper.Manager.ListResources(ctx, l.current)
	if err != nil && !errdefs.IsNotFound(err) {
		return held, fmt.Errorf("reading the lease of %s: %w", l.digest, err)
	}
	for _, r := range all {
		switch r.Type {
		case "content":
			held.Content = append(held.Content, digest.Digest(r.ID))
		case "ingests":
			held.Ingests = append(held.Ingests, r.ID)
		}
	}
	return held, nil
}

// IsGone says whether containerd no longer has the lease that the last Use gave.
func (l *Lease) IsGone(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.keeper.Manager.ListResources(ctx, l.current)
	return errdefs.IsNotFound(err)
}
