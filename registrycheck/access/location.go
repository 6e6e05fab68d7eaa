package access

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"edgecache.dev/api/imageref"
)

// Location is one host at which an image may be found, where that is said not by Settings
// but by the configuration of a node's own runtime.
type Location struct {
	// Host is the host[:port] that is contacted.
	Host string
	// Repository is the path of the image on that host, below Root.
	Repository string
	// Mirror says that Host stands in for the registry: it is told for which, by the
	// query ns=, as containerd does. Without Query it is not told.
	Mirror, Query bool
	// Root is where the API begins. Empty means /v2.
	Root string
	// PlainHTTP says that the host speaks HTTP without TLS, EitherWay that it may speak
	// either: TLS is tried first.
	PlainHTTP, EitherWay bool
	// Wire is how to connect; nil means as Settings say for Host. The same pointer stands
	// for the same connections.
	Wire *Wire
	// Blocked says why nothing may be pulled from there; empty where it may.
	Blocked string
}

// Wire is what connections to a Location need besides its host. Both fields may be nil.
type Wire struct {
	// TLS holds CAs, client certificates, and whether certificates are verified.
	TLS *tls.Config
	// Header is sent to the host with each request.
	Header http.Header
}

// WithLocations has find say where an image may be found, in the order in which to try the
// locations. None means that it is as Settings say. find must give the same for the same
// image, and is called from many goroutines.
func WithLocations(find func(imageref.Reference) []Location) Option {
	return func(n *Network) { n.find = find }
}

// BlockedError says that the configuration of nodes forbids a registry.
type BlockedError struct {
	Host, Reason string
}

// Error names the host and why.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("nothing may be pulled from %s: %s", e.Host, Scrub(e.Reason))
}

// placed turns locations into endpoints.
func (n *Network) located(ref imageref.Reference, found []Location) []Endpoint {
	var out []Endpoint
	for _, p := range found {
		root, repository := split(strings.TrimRight(p.Root, "/"), p.Repository)
		e := Endpoint{
			Host: p.Host, Repository: repository, name: ref.Name(), entry: n.entryOf(p.Host),
			plainHTTP: p.PlainHTTP, eitherWay: p.EitherWay, wire: p.Wire, root: root, blocked: p.Blocked,
		}
		if p.Mirror {
			e.Mirrors, e.name = ref.Registry(), p.Host+"/"+repository
			e.silent = !p.Query
		}
		out = append(out, e)
	}
	return out
}

// split makes a part of the repository of what a root has below /v2: that is how registries
// that serve several understand it, and tokens are for the whole of it.
func split(root, repository string) (rest, whole string) {
	if root == "/v2" {
		return "", repository
	}
	if below, ok := strings.CutPrefix(root, "/v2/"); ok {
		return "", below + "/" + repository
	}
	return root, repository
}

// connections gives the pools of an endpoint.
func (n *Network) connections(e Endpoint) connections {
	if e.wire == nil {
		return n.transports[e.entry]
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	made, ok := n.wired[e.wire]
	if !ok {
		trust := cmp.Or(e.wire.TLS, &tls.Config{}).Clone()
		trust.MinVersion = max(trust.MinVersion, tls.VersionTLS12)
		made = n.connect(n.transports[e.entry].own.Proxy, trust)
		n.wired[e.wire] = made
	}
	return made
}

// reroute puts the path of a request to the endpoint itself below its root, and adds its
// headers.
func (w wire) reroute(req *http.Request) *http.Request {
	e := w.endpoint
	if !w.own(req.URL) || e.root == "" && (e.wire == nil || len(e.wire.Header) == 0) {
		return req
	}
	req = req.Clone(req.Context())
	redirected := req.Response != nil // and so leads to where it says
	if rest, ok := strings.CutPrefix(req.URL.Path, "/v2/"); ok && e.root != "" && !redirected {
		req.URL = &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: e.root + "/" + rest, RawQuery: req.URL.RawQuery}
	}
	if e.wire != nil {
		maps.Copy(req.Header, e.wire.Header)
	}
	return req
}

// forgive makes nothing of a root that has no page of its own: runtimes do not look at it,
// and a registry that wants a login says so where the image is asked for.
func (w wire) forgive(resp *http.Response) {
	at := resp.Request.URL
	if w.endpoint.root != "" && w.own(at) && at.Path == w.endpoint.root+"/" && resp.StatusCode == http.StatusNotFound {
		resp.StatusCode, resp.Status = http.StatusOK, "200 OK"
	}
}
