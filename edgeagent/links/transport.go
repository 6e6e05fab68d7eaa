package links

import (
	"context"
	"errors"
	"net/http"
)

// Transport notes how requests to the API server fare. An answer of any kind is one.
func (w *Watch) Transport(next http.RoundTripper) http.RoundTripper { return observed{next, w} }

type observed struct {
	next  http.RoundTripper
	watch *Watch
}

// RoundTrip sends a request.
func (o observed) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(r)
	switch {
	case err == nil:
		o.watch.Reached(APIServer)
	case !errors.Is(context.Cause(r.Context()), context.Canceled): // by us: it says nothing
		o.watch.Missed(APIServer)
	}
	return resp, err
}
