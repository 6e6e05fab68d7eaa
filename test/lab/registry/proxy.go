package registry

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"edgecache.dev/test/lab/port"
)

// proxy is the door in front of the registry.
type proxy struct {
	address  *port.Reservation
	upstream http.RoundTripper
	recorder recorder
	gate     gate

	mu      sync.Mutex // guards what follows
	faults  *Faults    // never changed, only replaced
	answers []*canned
	server  *http.Server // nil while closed
}

func newProxy(address *port.Reservation, upstream http.RoundTripper) *proxy {
	return &proxy{address: address, upstream: upstream, faults: &Faults{}, gate: gate{realm: "http://" + address.String() + tokenPath}}
}

// current returns the faults of the moment, which the caller must not change.
func (p *proxy) current() *Faults {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}

func (p *proxy) setFaults(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.answers = &f, cans(f.Responses)
}

// open begins to listen; it does nothing if the proxy is open.
func (p *proxy) open(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		return nil
	}
	l, err := p.address.Listen(ctx)
	if err != nil {
		return err
	}
	p.server = &http.Server{
		Handler:           http.HandlerFunc(p.serve),
		ConnContext:       withConn,
		ReadHeaderTimeout: time.Minute,
		// Cut connections are what this server is for.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	// Ends when the server is closed, which is the only reason.
	go func(server *http.Server) { _ = server.Serve(listener{l, p.current}) }(p.server)
	return nil
}

// shut stops listening and closes every connection; it does nothing if the proxy is shut.
func (p *proxy) shut() {
	p.mu.Lock()
	server := p.server
	p.server = nil
	p.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

// serve records a request and answers it: by a fault, by a demand for credentials or by the registry.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	e := p.recorder.add(describe(r))
	defer func() {
		p.recorder.update(e, func(e *entry) {
			if e.live != nil {
				e.Bytes, e.live = e.live(), nil
			}
			e.End = time.Now()
		})
	}()
	p.delay(r.Context())
	if instead := p.canned(r); instead != nil {
		p.reply(w, r, e, newAnswer(instead.Status, instead.Header.Clone(), instead.Body))
		return
	}
	if refusal := p.gate.check(r); refusal != nil {
		p.reply(w, r, e, refusal)
		return
	}
	p.forward(w, r, e)
}

func describe(r *http.Request) Request {
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	d := Request{
		Client: client, UserAgent: r.UserAgent(), Start: time.Now(),
		Method: r.Method, Path: r.URL.Path, Range: r.Header.Get("Range"),
	}
	d.Repository, d.Blob, d.Manifest = target(r.URL.Path)
	return d
}

func (p *proxy) delay(ctx context.Context) {
	if latency := p.current().Latency; latency > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(latency):
		}
	}
}

func (p *proxy) canned(r *http.Request) *Response {
	p.mu.Lock()
	defer p.mu.Unlock()
	return take(p.answers, r)
}

// forward asks the registry and passes its answer on.
func (p *proxy) forward(w http.ResponseWriter, r *http.Request, e *entry) {
	request := r.Clone(r.Context())
	request.URL.Scheme, request.URL.Host = "http", r.Host
	request.RequestURI = ""
	if p.current().IgnoreRange {
		request.Header.Del("Range")
	}
	response, err := p.upstream.RoundTrip(request)
	if err != nil {
		p.reply(w, r, e, newAnswer(http.StatusBadGateway, nil, "the registry does not answer: "+err.Error()))
		return
	}
	defer func() { _ = response.Body.Close() }()
	p.reply(w, r, e, &answer{status: response.StatusCode, header: response.Header, body: response.Body})
}

// answer is what goes to a client: the registry's or the proxy's own.
type answer struct {
	status int
	header http.Header
	body   io.Reader
}

// newAnswer makes an answer of the proxy's own. It takes header over.
func newAnswer(status int, header http.Header, body string) *answer {
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	return &answer{status: status, header: header, body: strings.NewReader(body)}
}

// reply sends an answer and records what of it went out.
func (p *proxy) reply(w http.ResponseWriter, r *http.Request, e *entry, a *answer) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	controller := http.NewResponseController(w)
	// A connection that breaks here breaks again below.
	_ = controller.Flush()
	c := connOf(r.Context())
	headers := c.sent.Load()
	p.recorder.update(e, func(e *entry) {
		e.Status = a.status
		e.Offset = offset(a.header.Get("Content-Range"))
		// The header has left: what the connection sends from here on is the body.
		e.live = func() int64 { return c.sent.Load() - headers }
	})
	_, err := io.Copy(w, a.body)
	if err = errors.Join(err, controller.Flush()); err != nil {
		// Ends the connection: the client must not take a part for the whole.
		panic(http.ErrAbortHandler)
	}
}
