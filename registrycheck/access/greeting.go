package access

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// maxGreetings is far above the registries that anybody names at a time.
const maxGreetings = 512

// greetings remember how registries say that they want a log-in, which is the same for
// all their repositories: a thousand images of one registry ask for it once.
type greetings struct {
	mu  sync.Mutex // guards all
	all map[greetingKey]*greeting
}

type greetingKey struct {
	endpoint Endpoint // without what names the repository
	scheme   string
}

// greeting is a registry's answer to /v2/, or the request for it.
type greeting struct {
	born time.Time
	// done is closed when the others are there; they are only read after that.
	done   chan struct{}
	resp   *http.Response // without its body
	err    error
	usable bool
}

func newGreetings() *greetings { return &greetings{all: map[greetingKey]*greeting{}} }

// claim gives what is kept for key, or a new one that the caller has to fill.
func (g *greetings) claim(key greetingKey) (one *greeting, mine bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one = g.all[key]
	if one != nil && time.Since(one.born) < maxSessionAge {
		return one, false
	}
	if len(g.all) >= maxGreetings {
		clear(g.all)
	}
	one = &greeting{born: time.Now(), done: make(chan struct{})}
	g.all[key] = one
	return one, true
}

// settle notes an answer, and forgets it when others should ask for themselves.
func (g *greetings) settle(key greetingKey, one *greeting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !one.usable && g.all[key] == one {
		delete(g.all, key)
	}
	close(one.done)
}

// greeter sends the requests of a log-in, and answers those for /v2/ from memory.
type greeter struct {
	wire
}

// RoundTrip answers a request without credentials for the registry's /v2/ from memory.
// The first to ask does it for all. Its error goes to all who waited, unless it had given
// up; after an answer that is no greeting each asks for itself.
func (g greeter) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.URL.Path != "/v2/" || !g.own(req.URL) || req.Header.Get("Authorization") != "" {
		return g.wire.RoundTrip(req)
	}
	key := greetingKey{endpoint: g.endpoint, scheme: g.plain(req).URL.Scheme}
	key.endpoint.Repository, key.endpoint.Mirrors, key.endpoint.name = "", "", ""
	for {
		one, mine := g.network.greetings.claim(key)
		if mine {
			return g.ask(req, key, one)
		}
		select {
		case <-one.done:
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		}
		if one.usable {
			return one.replay(req), nil
		}
		if one.err != nil && !errors.Is(one.err, context.Canceled) && !errors.Is(one.err, context.DeadlineExceeded) {
			return nil, one.err
		}
	}
}

// ask fills in a greeting.
func (g greeter) ask(req *http.Request, key greetingKey, one *greeting) (*http.Response, error) {
	resp, err := g.wire.RoundTrip(req)
	one.err = err
	if err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized) {
		one.usable, one.resp = true, &http.Response{
			Status: resp.Status, StatusCode: resp.StatusCode, Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
			Header: resp.Header.Clone(), Request: resp.Request,
		}
	}
	g.network.greetings.settle(key, one)
	return resp, err
}

// replay gives the answer again.
func (g *greeting) replay(req *http.Request) *http.Response {
	resp := *g.resp
	resp.Header, resp.Body = g.resp.Header.Clone(), http.NoBody
	resp.Request = req.Clone(req.Context())
	resp.Request.URL = g.resp.Request.URL
	return &resp
}
