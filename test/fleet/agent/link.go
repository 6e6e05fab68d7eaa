package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// errCut is what requests over a cut link fail with.
var errCut = errors.New("network is unreachable")

// link is the way to the API server. Cutting it ends what is under way, watches too.
type link struct {
	next http.RoundTripper
	tell func(*http.Request) // of each request that goes through

	mu  sync.Mutex
	up  context.Context // guarded by mu; nil while cut
	cut context.CancelCauseFunc
}

func newLink(next http.RoundTripper, tell func(*http.Request)) *link {
	l := &link{next: next, tell: tell}
	l.join()
	return l
}

func (l *link) join() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up == nil {
		l.up, l.cut = context.WithCancelCause(context.Background())
	}
}

func (l *link) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up != nil {
		l.cut(errCut)
		l.up = nil
	}
}

func (l *link) current() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// RoundTrip sends a request while the link holds.
func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	up := l.current()
	if up == nil {
		return nil, errCut
	}
	l.tell(r)
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(up, func() { cancel(errCut) }) //nolint:contextcheck // the link may end a request, besides its sender
	answer, err := l.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		stop()
		cancel(nil)
		return nil, err
	}
	answer.Body = &body{ReadCloser: answer.Body, end: func() { stop(); cancel(nil) }}
	return answer, nil
}

// body lets go of the link when it is closed.
type body struct {
	io.ReadCloser
	end func()
}

// Close ends the answer.
func (b *body) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
