package registrycheck

import (
	"context"
	"errors"
	"sync"
	"time"

	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/resolve"
)

// firstWait is how long to wait for a registry that asks to come later and does not say
// when; it doubles.
const firstWait = 2 * time.Second

// budget is how long one image may wait, from its first wait on.
type budget struct {
	max time.Duration

	mu  sync.Mutex // guards end
	end time.Time
}

// allows says whether the image may wait so long from now.
func (b *budget) allows(d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end.IsZero() {
		b.end = time.Now().Add(b.max)
	}
	return !time.Now().Add(d).After(b.end)
}

// pause is until when a registry wants to be left alone by a user.
type pause struct {
	mu    sync.Mutex // guards all
	until time.Time
	cause error // the answer that asked for it
}

// get gives what is left of the pause, and why it is.
func (p *pause) get() (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.until), p.cause
}

func (p *pause) set(d time.Duration, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.until) {
		p.until, p.cause = until, cause
	}
}

// patiently asks, again after waiting where the registry asks for that and the image's
// budget has it. While a registry wants to be left alone nothing else is sent there: who
// cannot wait so long gets the answer that asked for it.
func patiently[T any](ctx context.Context, i *image, ask func() (T, error)) (T, error) {
	var none T
	for wait := firstWait; ; wait *= 2 {
		if left, cause := i.seen.pause.get(); left > 0 {
			if !i.budget.allows(left) {
				return none, cause
			}
			if err := sleep(ctx, left); err != nil {
				return none, err
			}
		}
		got, err := ask()
		if _, busy := errors.AsType[*access.BusyError](err); !busy {
			return got, err
		}
		if e, ok := errors.AsType[*resolve.Error](err); ok && e.RetryAfter > 0 {
			wait = e.RetryAfter
		}
		i.seen.pause.set(wait, err)
	}
}

// sleep waits, as long as the context allows.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
