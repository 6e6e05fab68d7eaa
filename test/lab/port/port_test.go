package port

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func reserved(t *testing.T) *Reservation {
	t.Helper()
	r, err := Loopback()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestAReservedPortIsNobodyElses(t *testing.T) {
	t.Parallel()
	r := reserved(t)
	if l, err := net.Listen("tcp4", r.String()); !errors.Is(err, syscall.EADDRINUSE) {
		if err == nil {
			err = l.Close()
		}
		t.Errorf("a stranger's listen: %v, want address in use", err)
	}
	seen := map[int]bool{r.Port(): true}
	for range 200 {
		other := reserved(t)
		if seen[other.Port()] {
			t.Fatalf("port %d given out twice", other.Port())
		}
		seen[other.Port()] = true
	}
}

func TestWithoutAListenerClientsAreRefused(t *testing.T) {
	t.Parallel()
	r := reserved(t)
	if _, err := net.Dial("tcp4", r.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling: %v, want connection refused", err)
	}
}

func TestAServerComesAndGoesOnTheSamePort(t *testing.T) {
	t.Parallel()
	r := reserved(t)
	for range 3 {
		l, err := r.Listen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp4", r.String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		// The server closes first: its end stays in TIME_WAIT, which must not bar the next listener.
		if err := errors.Join(server.Close(), client.Close(), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosedTwiceIsClosedOnce(t *testing.T) {
	t.Parallel()
	r := reserved(t)
	r.Close()
	r.Close()
	l, err := net.Listen("tcp4", r.String())
	if err != nil {
		t.Fatalf("the port was not given back: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnlyIPv4(t *testing.T) {
	t.Parallel()
	if _, err := Reserve(netip.MustParseAddrPort("[::1]:0")); err == nil {
		t.Error("an IPv6 address was accepted")
	}
}
