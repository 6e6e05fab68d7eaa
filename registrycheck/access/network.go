package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/api/imageref"
	"edgecache.dev/internal/dialguard"
)

// Limits of one connection. Each is shorter than DefaultTimeout, so that a dead mirror
// leaves time for the registry behind it.
const (
	dialTimeout         = 10 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	idleConnTimeout     = 90 * time.Second
	// maxHeaderBytes is well above the headers of any registry and bounds a hostile one.
	maxHeaderBytes = 64 << 10
)

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Option changes how a Network works.
type Option func(*Network)

// WithDial replaces the way connections are opened, to registries as well as to
// proxies. The guard goes with it.
func WithDial(dial DialFunc) Option { return func(n *Network) { n.dial = dial } }

// WithUserAgent sets what is sent as User-Agent in front of the library's own name.
// Default "edgecache".
func WithUserAgent(name string) Option { return func(n *Network) { n.userAgent = name } }

// Network reaches registries as Settings say. Close it when done.
type Network struct {
	settings  Settings
	dial      DialFunc // nil for the built-in ones
	guard     *dialguard.Guard
	userAgent string
	// mirrors and transports have one element for each of settings.Registries and one
	// more for hosts without an entry.
	mirrors    [][]mirror
	transports []connections
	places     *places
	sessions   *sessions
	greetings  *greetings
	// find is what WithLocations gave, and wired the connections of its wires.
	find  func(imageref.Reference) []Location
	mu    sync.Mutex // guards wired
	wired map[*Wire]connections
}

// connections are those made by one entry's settings. They are two pools: a connection
// that was made to a host because a user named it is not used when a registry names it.
type connections struct {
	own    *http.Transport // to the registry or mirror itself
	others *http.Transport // to the hosts that it names, guarded
}

// New makes a Network. It reads the CA files; the errors name the field and what to fix.
func New(settings Settings, opts ...Option) (*Network, error) {
	if errs := settings.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("checking registry settings: %w", errs.ToAggregate())
	}
	settings = settings.withDefaults()
	n := &Network{
		settings:  settings,
		guard:     settings.guard(),
		userAgent: "edgecache",
		places:    newPlaces(settings.MaxRequestsPerHost),
		sessions:  newSessions(),
		greetings: newGreetings(),
		wired:     map[*Wire]connections{},
	}
	for _, opt := range opts {
		opt(n)
	}
	for i, r := range append(settings.Registries, Registry{}) {
		if err := n.add(r); err != nil {
			return nil, fmt.Errorf("registry settings: %s: %w", field.NewPath("registries").Index(i), err)
		}
	}
	return n, nil
}

// Settings gives the settings with defaults filled in.
func (n *Network) Settings() Settings { return n.settings }

// Close ends the connections that no request is using.
func (n *Network) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range slices.AppendSeq(slices.Clone(n.transports), maps.Values(n.wired)) {
		t.own.CloseIdleConnections()
		t.others.CloseIdleConnections()
	}
}

// add prepares one entry: its mirrors and its connections.
func (n *Network) add(r Registry) error {
	var mirrors []mirror
	for _, s := range r.Mirrors {
		m, err := parseMirror(s)
		if err != nil {
			return fmt.Errorf("mirror %s: %w", withoutUser(s), err)
		}
		mirrors = append(mirrors, m)
	}
	roots, err := loadRoots(r.CAFile)
	if err != nil {
		return err
	}
	proxy, err := r.Proxy.choose()
	if err != nil {
		return err
	}
	n.mirrors = append(n.mirrors, mirrors)
	n.transports = append(n.transports, n.connect(proxy, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
	return nil
}

// connect makes the two pools of connections that share a proxy and what TLS trusts.
func (n *Network) connect(proxy func(*http.Request) (*url.URL, error), trust *tls.Config) connections {
	own, others := n.dial, n.dial
	if n.dial == nil {
		own, others = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext, n.guard.DialContext
	}
	t := &http.Transport{
		Proxy:                  proxy,
		DialContext:            own,
		TLSClientConfig:        trust,
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    n.settings.MaxRequestsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		// Lengths and digests are those of the bytes on the wire.
		DisableCompression: true,
	}
	guarded := t.Clone()
	guarded.DialContext = others
	return connections{t, guarded}
}

// loadRoots gives the system's CAs and those of the file; nil, which means the system's,
// without a file.
func loadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading caFile: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading caFile %s: no certificate in it: it must be PEM (-----BEGIN CERTIFICATE-----)", file)
	}
	return roots, nil
}

// choose gives net/http's proxy function. The environment is read here, once.
func (p ProxyURL) choose() (func(*http.Request) (*url.URL, error), error) {
	switch p {
	case ProxyDirect:
		return nil, nil
	case "":
		choose := httpproxy.FromEnvironment().ProxyFunc()
		return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }, nil
	}
	u, err := url.Parse(string(p))
	if err != nil {
		return nil, errors.New("proxy is not a URL")
	}
	return http.ProxyURL(u), nil
}
