package access

import (
	"context"
	"io"
	"sync"
)

// places limits the requests that run at one host at a time. A host without requests
// takes no memory: hosts of redirects are chosen by the other side.
type places struct {
	max int

	mu    sync.Mutex // guards hosts and the waiters' counts in it
	hosts map[string]*hostPlaces
}

type hostPlaces struct {
	taken chan struct{} // holds one element per request that runs
	users int           // requests that run or wait
}

func newPlaces(limit int) *places {
	return &places{max: limit, hosts: map[string]*hostPlaces{}}
}

// take waits for a place at host. The caller calls release once, when its request has
// been read to the end.
func (p *places) take(ctx context.Context, host string) (release func(), err error) {
	h := p.join(host)
	select {
	case h.taken <- struct{}{}:
		return func() { <-h.taken; p.leave(host, h) }, nil
	case <-ctx.Done():
		p.leave(host, h)
		return nil, context.Cause(ctx)
	}
}

func (p *places) join(host string) *hostPlaces {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[host]
	if h == nil {
		h = &hostPlaces{taken: make(chan struct{}, p.max)}
		p.hosts[host] = h
	}
	h.users++
	return h
}

func (p *places) leave(host string, h *hostPlaces) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.users--; h.users == 0 {
		delete(p.hosts, host)
	}
}

// body hands the place back when the answer has been read, failed or closed.
type body struct {
	io.Reader
	closer  io.Closer
	release func()
	once    sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.once.Do(b.release)
	}
	return n, err
}

func (b *body) Close() error {
	b.once.Do(b.release)
	return b.closer.Close()
}
