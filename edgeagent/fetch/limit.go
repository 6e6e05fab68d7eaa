package fetch

import (
	"context"
	"fmt"

	"golang.org/x/time/rate"
)

const (
	// MinBandwidth is the least limit that NewLimiter is made for, in bytes per second: with
	// less, servers take a connection for dead.
	MinBandwidth = 16 << 10
	// minPiece is the least that is read at once under a limit, and piecesPerSecond how many
	// reads a second make up the limit, so that also a low one is a steady trickle.
	minPiece, piecesPerSecond = 4 << 10, 8
)

// Limiter bounds the bandwidth of fetching. *rate.Limiter is one; see NewLimiter.
type Limiter interface {
	// WaitN waits until n more bytes may be read; n is at most Burst. It returns the
	// context's error when that comes first.
	WaitN(ctx context.Context, n int) error
	// Burst is how many bytes may be read at once.
	Burst() int
}

// NewLimiter gives a limiter for a number of bytes per second, from MinBandwidth up, which
// all pullers that it is given to share.
func NewLimiter(bytesPerSecond int64) *rate.Limiter {
	piece := min(max(bytesPerSecond/piecesPerSecond, minPiece), ChunkSize)
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(piece))
}

// piece is how many bytes are read at once.
func (o Options) piece() int {
	if o.Limiter == nil {
		return ChunkSize
	}
	return min(ChunkSize, max(o.Limiter.Burst(), 1))
}

// limit pays for n bytes, after they were written: waiting must not put them at risk.
func (j *job) limit(ctx context.Context, n int) error {
	for piece := j.options.piece(); j.options.Limiter != nil && n > 0; n -= piece {
		if err := j.options.Limiter.WaitN(ctx, min(n, piece)); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return &Error{Reason: NetworkError, Err: fmt.Errorf("waiting for bandwidth: %w", err)}
		}
	}
	return nil
}
