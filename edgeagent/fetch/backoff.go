package fetch

import (
	"context"
	"math/rand/v2"
	"time"

	"edgecache.dev/internal/pause"
)

const (
	firstDelay = time.Second
	lastDelay  = 30 * time.Second
)

// delay is the pause before another attempt after failures ones in a row: 1 s, doubling
// to 30 s, of which the second half is random (jitter in [0,1)) so that the nodes of a
// site do not come back in one instant.
func delay(failures int, jitter float64) time.Duration {
	d := lastDelay
	if shift := failures - 1; shift < 5 {
		d = firstDelay << shift
	}
	return d/2 + time.Duration(jitter*float64(d/2))
}

// backoff counts attempts that brought nothing.
type backoff struct {
	limit    int // attempts in a row without any new byte
	failures int
}

// wait pauses after an attempt that failed, having brought bytes or not, and gives nil for
// another one. Else it gives the error to return: why, when the limit is reached, or the
// context's cause.
func (b *backoff) wait(ctx context.Context, brought bool, why error) error {
	if b.failures++; brought {
		b.failures = 0
	}
	if b.failures < b.limit && pause.For(ctx, delay(max(b.failures, 1), rand.Float64())) {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return why
}
