package engine

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/internal/pause"
)

// Link is how a node reaches the registry.
type Link struct {
	// BytesPerSecond of each pull.
	BytesPerSecond float64
	// Breaks is the share of pulls that break off on the way.
	Breaks float64
	// Seed makes the same pulls break at the same bytes.
	Seed uint64
}

const (
	// reports is into how many steps a pull is cut at most, and leastStep how long one lasts
	// at least, as with a real driver.
	reports, leastStep = 50, 250 * time.Millisecond
)

// Ensure makes names point at a digest.
func (e *Engine) Ensure(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	if err := r.Check(); err != nil {
		return err
	}
	size, err := e.pull(ctx, r.Digest, progress)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range runtime.NamesOf(r.Name, r.Digest) {
		e.names[n] = runtime.Held{Digest: r.Digest, ID: r.Digest.String(), Size: size, Complete: true, Pinned: r.Pin, Managed: true}
	}
	e.hint()
	return nil
}

// pull brings in what is missing of an image and gives its size.
func (e *Engine) pull(ctx context.Context, d digest.Digest, progress func(runtime.Progress)) (int64, error) {
	p, err := e.begin(d)
	if err != nil || p.whole {
		return p.size, err
	}
	for done := p.from; done < p.until; {
		step := min(max(p.size/reports, int64(p.link.BytesPerSecond*leastStep.Seconds()), 1), p.until-done)
		if err := sleep(ctx, time.Duration(float64(step)/p.link.BytesPerSecond*float64(time.Second))); err != nil {
			return 0, err
		}
		done += step
		e.advance(d, done)
		if progress != nil {
			progress(runtime.Progress{Size: p.size, Done: done})
		}
	}
	return p.size, e.end(d, p)
}

// pull is one attempt.
type pull struct {
	link              Link
	size, from, until int64 // of bytes
	whole             bool  // all is there already
}

func (e *Engine) begin(d digest.Digest) (pull, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.content[d]; c != nil && c.whole {
		return pull{size: c.size, whole: true}, nil
	}
	size, err := e.source.size(d)
	if err != nil {
		e.counts.Broken++
		return pull{}, err
	}
	c := e.content[d]
	if c == nil {
		c = &content{size: size}
		e.content[d] = c
	}
	return pull{link: e.link, size: size, from: c.done, until: e.link.breaksAt(d, c.done, size)}, nil
}

// breaksAt says up to where an attempt comes that begins at a byte.
func (l Link) breaksAt(d digest.Digest, from, size int64) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(d)) // never fails
	rng := rand.New(rand.NewPCG(l.Seed^h.Sum64(), uint64(from)))
	if rng.Float64() >= l.Breaks {
		return size
	}
	return from + rng.Int64N(size-from)
}

func (e *Engine) advance(d digest.Digest, done int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.content[d].done = done
}

func (e *Engine) end(d digest.Digest, p pull) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.until < p.size {
		e.counts.Broken++
		return &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("connection reset by peer")}
	}
	c := e.content[d]
	e.counts.Pulls++
	if c.pulled {
		e.counts.Duplicates++
	}
	c.done, c.whole, c.pulled = p.size, true, true
	return nil
}

// sleep waits; the context's cause ends it.
func sleep(ctx context.Context, d time.Duration) error {
	if !pause.For(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}
