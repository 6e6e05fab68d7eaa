// Package serial lets things with the same key happen one after the other, and things with
// different keys at once.
//
// It owns the waiting and nothing else: no queue order, no fairness, no timeouts but the
// caller's context. A Group holds memory for the keys that are entered at the moment only.
package serial

import (
	"context"
	"sync"
)

// Group is a set of doors, one for each key. The zero value is ready to use. It must not
// be copied.
type Group[K comparable] struct {
	mu   sync.Mutex
	busy map[K]chan struct{} // closed when the key is left
}

// Enter waits until nobody else is inside with the key, and gives the function to leave
// with, which may be called more than once. It fails with the context's cause when ctx
// ends first.
func (g *Group[K]) Enter(ctx context.Context, key K) (leave func(), err error) {
	for {
		g.mu.Lock()
		left, inside := g.busy[key]
		if !inside {
			defer g.mu.Unlock()
			return g.enter(key), nil
		}
		g.mu.Unlock()
		select {
		case <-left:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Try is Enter without waiting: ok is false when somebody is inside with the key.
func (g *Group[K]) Try(key K) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, inside := g.busy[key]; inside {
		return nil, false
	}
	return g.enter(key), true
}

// enter takes the key, under mu.
func (g *Group[K]) enter(key K) func() {
	left := make(chan struct{})
	if g.busy == nil {
		g.busy = map[K]chan struct{}{}
	}
	g.busy[key] = left
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.busy, key)
		close(left)
	})
}
