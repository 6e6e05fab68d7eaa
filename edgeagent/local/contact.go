package local

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"edgecache.dev/internal/brief"
)

// Contact notes when the API server was heard. The zero value has heard nothing.
type Contact struct {
	mu    sync.Mutex // guards what follows
	heard time.Time  // of the last answer, whatever it said
	err   error      // of the last request, nil when it was answered
}

// Wrap has requests noted that go through a transport.
func (c *Contact) Wrap(to http.RoundTripper) http.RoundTripper {
	return noting{contact: c, to: to}
}

type noting struct {
	contact *Contact
	to      http.RoundTripper
}

// RoundTrip notes how a request ends.
func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := n.to.RoundTrip(r)
	if err == nil || !errors.Is(err, context.Canceled) { // told to stop: says nothing of the server
		n.contact.note(r.Context(), err)
	}
	return response, err
}

// note takes in how a request ended, and logs when that is another way than before.
func (c *Contact) note(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.err
	if c.err = err; err == nil {
		c.heard = time.Now()
	}
	switch log := klog.FromContext(ctx); {
	case before == nil && err != nil:
		log.Info("The API server does not answer, working from memory", "err", err)
	case before != nil && err == nil:
		log.Info("The API server answers again", "was", before)
	}
}

// Status tells how the link is.
func (c *Contact) Status() *APIServer {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &APIServer{Reachable: metav1.ConditionUnknown}
	if !c.heard.IsZero() {
		s.Reachable, s.HeardSecondsAgo = metav1.ConditionTrue, new(time.Since(c.heard).Seconds())
	}
	if c.err != nil {
		s.Reachable, s.Error = metav1.ConditionFalse, brief.Text(c.err.Error(), maxError)
	}
	return s
}

// maxError is the longest error that is told, in bytes.
const maxError = 300
