package dialguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"edgecache.dev/internal/hostglob"
)

// DefaultTimeout bounds making a connection, names included.
const DefaultTimeout = 30 * time.Second

// Options of a Guard. The zero value guards what is built in.
type Options struct {
	// Ranges are guarded besides those that are built in: pods and Services of a cluster.
	Ranges []netip.Prefix
	// Trusted are hosts that are reached wherever they are: patterns as hostglob.Match has
	// them, with a port or, for all ports, without.
	Trusted []string
	// Timeout bounds making a connection. Default 30 s.
	Timeout time.Duration
	// ReadBuffer bounds what the kernel takes in of a connection before it is read, in
	// bytes: where bandwidth is limited it is to be small, or the first seconds know no
	// limit. Default 0: the kernel's own choice, up to some MiB.
	ReadBuffer int
	// Resolver looks up names. Default: the system's.
	Resolver *net.Resolver
}

// Guard opens connections.
type Guard struct{ options Options }

// New makes a Guard. The options are taken as they are; see ParseRange and hostglob.Check
// for what users wrote.
func New(o Options) *Guard {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	return &Guard{o}
}

// RefusedError says that a host was not connected to because of where it is.
type RefusedError struct {
	// Host is what was to be connected to, with its port.
	Host string
	// Address is what the host resolved to.
	Address netip.Addr
	// Kind says what is guarded there: "loopback", "link-local", "guarded range 10.0.0.0/8".
	Kind string
}

// Error names host and address, and the setting that would allow it.
func (e *RefusedError) Error() string {
	what := e.Host + " is the address of " + e.Kind
	if host, _, err := net.SplitHostPort(e.Host); err != nil || host != e.Address.String() {
		what = fmt.Sprintf("%s resolves to %s (%s)", e.Host, e.Address, e.Kind)
	}
	return what + ", where no connection is made on behalf of a registry: if this is meant, list the host in allowedHosts"
}

// trustKey finds the hosts of Trust in a context.
type trustKey struct{}

// Trust gives a context in which connections to these addresses, "host:port", are not
// checked. net/http hands it to the dialer of a request.
func Trust(ctx context.Context, addresses ...string) context.Context {
	return context.WithValue(ctx, trustKey{}, addresses)
}

// DialContext connects as net.Dialer.DialContext does. It gives a *RefusedError when each
// address of the host is guarded.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: g.options.Timeout, KeepAlive: 30 * time.Second, Resolver: g.options.Resolver}
	trusted := g.trusts(ctx, address)
	d.ControlContext = func(_ context.Context, _, resolved string, raw syscall.RawConn) error {
		if !trusted {
			if err := g.check(address, resolved); err != nil {
				return err
			}
		}
		return g.shrink(raw)
	}
	conn, err := d.DialContext(ctx, network, address)
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return nil, refused
	}
	return conn, err
}

// Trusts says whether "host:port" is reached wherever it is.
func (g *Guard) Trusts(address string) bool { return g.trusts(context.Background(), address) }

// trusts says whether the user configured a host.
func (g *Guard) trusts(ctx context.Context, address string) bool {
	address = strings.ToLower(address)
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		name = address
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]" // as hostglob tells an IPv6 address from a port
	}
	if some, ok := ctx.Value(trustKey{}).([]string); ok && slices.ContainsFunc(some, func(t string) bool { return strings.EqualFold(t, address) }) {
		return true
	}
	return slices.ContainsFunc(g.options.Trusted, func(pattern string) bool {
		pattern = strings.ToLower(pattern)
		return hostglob.Match(pattern, address) || hostglob.Match(pattern, name)
	})
}

// check says whether an address, as the dialer gives it, may be connected to.
func (g *Guard) check(host, resolved string) error {
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("connecting to %s: %q is no address: %w", host, resolved, err)
	}
	if kind := g.kind(at.Addr()); kind != "" {
		return &RefusedError{Host: host, Address: plain(at.Addr()), Kind: kind}
	}
	return nil
}

// shrink bounds the receive buffer, which must be done before the connection is made: the
// other side is told then how much it may send.
func (g *Guard) shrink(raw syscall.RawConn) error {
	if g.options.ReadBuffer <= 0 {
		return nil
	}
	// A system that does not let it be set is as it is without a limit.
	return raw.Control(func(fd uintptr) { setReadBuffer(fd, g.options.ReadBuffer) })
}
