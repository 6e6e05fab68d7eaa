package registry

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

const (
	// sendBuffer bounds what the kernel has taken but not yet sent, which the log counts as served.
	sendBuffer = 64 << 10
	// chunk is the most that is written at once, so that a change of faults holds soon.
	chunk = 32 << 10
	// pace is how often a rate-limited connection sends something.
	pace = 20 * time.Millisecond
)

// errCut is what the server sees of a connection that a fault has cut.
var errCut = errors.New("connection cut by a fault")

// conn is a client's connection. Only the server's goroutine for the connection writes to it.
type conn struct {
	net.Conn
	faults func() *Faults
	sent   atomic.Int64
	next   time.Time // when a rate-limited connection may send again
}

// Write sends b as the faults of the moment allow.
func (c *conn) Write(b []byte) (int, error) {
	total := 0
	for total < len(b) {
		f := c.faults()
		n, err := c.send(b[total:min(len(b), total+chunk)], f)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// send sends as much of b as may go at once.
func (c *conn) send(b []byte, f *Faults) (int, error) {
	if f.CutAfter > 0 {
		left := f.CutAfter - c.sent.Load()
		if left <= 0 {
			return 0, errors.Join(errCut, c.Close())
		}
		b = b[:min(int64(len(b)), left)]
	}
	if f.BytesPerSecond > 0 {
		b = b[:min(len(b), perPace(f.BytesPerSecond))]
		time.Sleep(time.Until(c.next))
	}
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	if f.BytesPerSecond > 0 {
		c.next = later(c.next, time.Now()).Add(time.Duration(n) * time.Second / time.Duration(f.BytesPerSecond))
	}
	return n, err
}

// perPace is how many bytes go in one pace at rate bytes per second.
func perPace(rate int64) int { return int(max(1, rate*int64(pace)/int64(time.Second))) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// listener gives connections their faults.
type listener struct {
	net.Listener
	faults func() *Faults
}

func (l listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := accepted.(*net.TCPConn); ok {
		// An error would only make the log a little less exact.
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
	return &conn{Conn: accepted, faults: l.faults}, nil
}

// connKey is where a request's context holds its conn.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf returns the connection of a request; the server has put it there.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}
