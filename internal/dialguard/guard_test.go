package dialguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestKind(t *testing.T) {
	t.Parallel()
	g := New(Options{Ranges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:10::/64")}})
	tests := map[string]string{
		"127.0.0.1": "loopback", "127.8.9.10": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback",
		"0.0.0.0": "this machine", "::": "this machine", "0.1.2.3": "this machine",
		"169.254.169.254": "link-local", "::ffff:169.254.169.254": "link-local", "64:ff9b::a9fe:a9fe": "link-local",
		"fe80::1": "link-local", "fe80::1%eth0": "link-local",
		"100.100.100.200": "a cloud's metadata service", "fd00:ec2::254": "a cloud's metadata service", "168.63.129.16": "a cloud's metadata service",
		"224.0.0.1": "multicast", "ff02::1": "multicast", "255.255.255.255": "broadcast",
		"10.96.0.1": "guarded range 10.96.0.0/12", "::ffff:10.111.0.1": "guarded range 10.96.0.0/12", "fd00:10::7": "guarded range fd00:10::/64",
		// Registries are there: private networks are what edge sites are made of.
		"10.1.2.3": "", "192.168.1.10": "", "172.16.0.1": "", "fd12::1": "", "8.8.8.8": "", "2001:db8::1": "", "100.64.0.1": "",
	}
	for address, want := range tests {
		if got := g.kind(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

func TestParseRange(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"10.96.0.0/12": "", "fd00:10:96::/112": "", "10.96.0.1/12": "write 10.96.0.0/12", "10.96.0.0": "must be a range",
		"": "must be a range", "::ffff:10.0.0.0/104": "must be written as IPv4",
	} {
		if _, err := ParseRange(s); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

// resolver answers every question for an IPv4 address with one address.
func resolver(t *testing.T, address string) *net.Resolver {
	t.Helper()
	l, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(answer(buf[:n], netip.MustParseAddr(address)), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", l.LocalAddr().String())
	}}
}

func answer(question []byte, a netip.Addr) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response, m.Additionals = true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: a.As4()},
		}}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

func TestDial(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	names := resolver(t, "127.0.0.1")
	tests := map[string]struct {
		to      string
		options Options
		trust   []string
		want    string // of the refusal, "" for a connection
	}{
		"an address":                        {to: "127.0.0.1:" + port, want: "127.0.0.1:" + port + " is the address of loopback"},
		"an address in IPv6":                {to: "[::ffff:127.0.0.1]:" + port, want: "resolves to 127.0.0.1 (loopback)"},
		"a name that leads there":           {to: "auth.example:" + port, want: "auth.example:" + port + " resolves to 127.0.0.1 (loopback)"},
		"the setting that would allow it":   {to: "auth.example:" + port, want: "list the host in allowedHosts"},
		"a name that was configured":        {to: "auth.example:" + port, options: Options{Trusted: []string{"*.example"}}},
		"in any case":                       {to: "AUTH.example:" + port, options: Options{Trusted: []string{"auth.Example:" + port}}},
		"another port was configured":       {to: "auth.example:" + port, options: Options{Trusted: []string{"auth.example:1"}}, want: "loopback"},
		"an address that was configured":    {to: "127.0.0.1:" + port, options: Options{Trusted: []string{"127.0.0.1"}}},
		"trusted for this request":          {to: "auth.example:" + port, trust: []string{"auth.example:" + port}},
		"trusted with another port":         {to: "auth.example:" + port, trust: []string{"auth.example:443"}, want: "loopback"},
		"with a small buffer":               {to: "auth.example:" + port, trust: []string{"auth.example:" + port}, options: Options{ReadBuffer: 64 << 10}},
		"a small buffer opens no doors":     {to: "auth.example:" + port, options: Options{ReadBuffer: 64 << 10}, want: "loopback"},
		"nothing is configured by a suffix": {to: "badauth.example:" + port, trust: []string{"auth.example:" + port}, want: "loopback"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.options.Resolver = names
			conn, err := New(tc.options).DialContext(Trust(t.Context(), tc.trust...), "tcp", tc.to)
			if conn != nil {
				_ = conn.Close()
			}
			_, refused := errors.AsType[*RefusedError](err)
			if refused != (tc.want != "") || refused && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}
