package access

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MaxBodyBytes is the longest answer that is read: the size above which container
// runtimes refuse manifests and configurations.
const MaxBodyBytes = 4 << 20

// maxErrorBytes is how much of an error answer is read; go-containerregistry fails
// without naming the status when there are more than 64 KiB.
const maxErrorBytes = 32 << 10

// Repetition of failed requests: three tries, with pauses of about 0.3 s and 0.9 s. That
// covers a restarting load balancer and leaves the rest to the caller's own schedule.
const (
	maxTries   = 3
	firstPause = 300 * time.Millisecond
	pauseGrows = 3
)

// wire sends the requests of one endpoint's sessions: the registry's own, and those to
// the token servers and blob stores that it names.
type wire struct {
	network  *Network
	endpoint Endpoint
}

var _ http.RoundTripper = wire{}

// RoundTrip sends a request, again where that may help, and turns answers that ask to
// wait into *BusyError.
func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := repeatedly(req, w.send)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "" {
		defer func() { _ = resp.Body.Close() }()
		return nil, busy(resp)
	}
	return resp, nil
}

// repeatedly sends a request, again where that is safe and may help. The pause ends with
// the context, and is not begun when the context would end first.
func repeatedly(req *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	pause := firstPause
	for try := 1; ; try++ {
		resp, err := send(req)
		if try == maxTries || !repeatable(req, resp, err) {
			return resp, err
		}
		wait := pause + rand.N(pause/5)
		if end, ok := req.Context().Deadline(); ok && time.Until(end) < wait {
			return resp, err
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
			return nil, cmp.Or(err, context.Cause(req.Context()))
		}
		pause *= pauseGrows
	}
}

// send makes one try.
func (w wire) send(req *http.Request) (*http.Response, error) {
	req = w.reroute(w.plain(req))
	if err := w.allow(req.URL); err != nil {
		closeBody(req)
		return nil, err
	}
	release, err := w.network.places.take(req.Context(), req.URL.Host)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	resp, err := w.transport(req.URL).RoundTrip(req)
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &body{Reader: bounded(resp), closer: resp.Body, release: release}
	w.forgive(resp)
	return resp, nil
}

// plain takes TLS off the requests to a registry that does not speak it. Its callers
// see from the answer's request what was spoken, and keep to it.
func (w wire) plain(req *http.Request) *http.Request {
	if !w.own(req.URL) || !w.endpoint.plainHTTP || req.URL.Scheme != "https" {
		return req
	}
	req = req.Clone(req.Context())
	req.URL.Scheme = "http"
	return req
}

// transport picks the connections for a host: by the host's own settings, else those of
// the registry whose token server or blob store it is.
func (w wire) transport(u *url.URL) http.RoundTripper {
	mine := w.network.connections(w.endpoint)
	if w.own(u) {
		return mine.own
	}
	e := w.network.entryOf(u.Host)
	if e == len(w.network.settings.Registries) {
		return mine.others
	}
	return w.network.transports[e].others
}

// own says whether a URL leads to the endpoint itself. Servers like to write out the
// port that their scheme implies.
func (w wire) own(u *url.URL) bool {
	if u.Host == w.endpoint.Host {
		return true
	}
	implied := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return strings.TrimSuffix(u.Host, implied) == strings.TrimSuffix(w.endpoint.Host, implied)
}

// allow holds the rule of invariant 1. It is needed for the registry itself too:
// go-containerregistry tries plain HTTP on every private address.
func (w wire) allow(u *url.URL) error {
	plain := w.network.plainHTTP(w.network.entryOf(u.Host))
	if w.own(u) {
		plain = w.endpoint.plainHTTP || w.endpoint.eitherWay
	}
	local := loopback(u.Host) && loopback(w.endpoint.Host)
	if u.Scheme != "http" || plain || local {
		return nil
	}
	return &PlainHTTPError{Host: u.Host}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// repeatable says whether the request failed in a way that is often over at once.
func repeatable(req *http.Request, resp *http.Response, err error) bool {
	if req.Method != http.MethodGet && req.Method != http.MethodHead || req.Context().Err() != nil {
		return false
	}
	if err != nil {
		return transient(err)
	}
	switch resp.StatusCode {
	case http.StatusServiceUnavailable:
		return resp.Header.Get("Retry-After") == ""
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout,
		499, // nginx: client closed request
		522: // Cloudflare: connection timed out
		return true
	}
	return false
}

// transient leaves out what takes long each time (timeouts) and what does not change
// within a second (refused connections, unknown hosts, certificates).
func transient(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary && !dns.IsTimeout
	}
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed},
		func(target error) bool { return errors.Is(err, target) })
}

// bounded ends an answer that is too long: an error answer silently, any other with
// *TooLargeError, at once where the server says its length.
func bounded(resp *http.Response) io.Reader {
	if resp.StatusCode >= http.StatusBadRequest {
		return io.LimitReader(resp.Body, maxErrorBytes)
	}
	limit, ok := resp.Request.Context().Value(limitKey{}).(int64)
	if !ok {
		limit = MaxBodyBytes
	}
	r := &limitReader{r: resp.Body, limit: limit, left: limit}
	if resp.ContentLength > limit && resp.Request.Method != http.MethodHead {
		r.left = -1
	}
	return r
}

// limitKey is the context key of an int64: how many bytes an answer may have, where that
// is not MaxBodyBytes.
type limitKey struct{}

// limitReader gives *TooLargeError instead of the first byte beyond its limit.
type limitReader struct {
	r     io.Reader
	limit int64 // bytes
	left  int64 // bytes; below zero the limit is passed
}

func (l *limitReader) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, &TooLargeError{Limit: l.limit}
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n - 1, &TooLargeError{Limit: l.limit}
	}
	return n, err
}

// busy reads what a registry that asks to wait has to say.
func busy(resp *http.Response) *BusyError {
	b, _ := io.ReadAll(resp.Body) // bounded; without it there is no message
	var answer struct {
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	u := resp.Request.URL
	e := &BusyError{Scheme: u.Scheme, Host: u.Host, Path: u.Path, StatusCode: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	if json.Unmarshal(bytes.TrimSpace(b), &answer) == nil && len(answer.Errors) > 0 {
		e.Message = Scrub(answer.Errors[0].Message)
	}
	return e
}

// maxRetryAfter bounds how long a registry can make its callers wait.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads Retry-After, seconds or a date, 0 without or when malformed. A date
// counts from the answer's own Date, so that a wrong clock here does no harm.
func retryAfter(h http.Header) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return min(max(time.Duration(seconds)*time.Second, 0), maxRetryAfter)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
