package port

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Reservation holds one TCP port on one address.
type Reservation struct {
	addr  netip.AddrPort
	fd    int
	close sync.Once
}

// Reserve holds a port of addr: the given one, or a free one if it is 0.
func Reserve(addr netip.AddrPort) (*Reservation, error) {
	r, err := reserve(addr)
	if err != nil {
		return nil, fmt.Errorf("reserving a port on %s: %w", addr, err)
	}
	return r, nil
}

// Loopback holds a free port of 127.0.0.1.
func Loopback() (*Reservation, error) {
	return Reserve(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0))
}

func reserve(addr netip.AddrPort) (*Reservation, error) {
	if !addr.Addr().Is4() {
		return nil, errors.New("only IPv4 addresses are supported")
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	bound, err := bind(fd, addr)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Reservation{addr: bound, fd: fd}, nil
}

// bind binds fd to addr and returns the address with the port it got.
func bind(fd int, addr netip.AddrPort) (netip.AddrPort, error) {
	// Sockets may share a port only if every one of them said so, the first included.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return netip.AddrPort{}, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return netip.AddrPort{}, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	bound, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("bound to a %T", name)
	}
	return netip.AddrPortFrom(addr.Addr(), uint16(bound.Port)), nil
}

// Addr returns the reserved address.
func (r *Reservation) Addr() netip.AddrPort { return r.addr }

// Port returns the reserved port.
func (r *Reservation) Port() int { return int(r.addr.Port()) }

// String returns the reserved address as host:port.
func (r *Reservation) String() string { return r.addr.String() }

// Listen listens on the reserved port. It may be called again after the listener was closed.
func (r *Reservation) Listen(ctx context.Context) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		if err != nil {
			return err
		}
		return failed
	}}
	return config.Listen(ctx, "tcp4", r.addr.String())
}

// Close gives the port back. A server that listens on it goes on.
func (r *Reservation) Close() { r.close.Do(func() { _ = unix.Close(r.fd) }) }
