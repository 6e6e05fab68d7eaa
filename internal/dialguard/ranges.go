package dialguard

import (
	"errors"
	"fmt"
	"net/netip"
)

// guarded are ranges that net/netip has no word for.
var guarded = []struct {
	prefix netip.Prefix
	kind   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this machine"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	// Link-local ones are found as such: 169.254.169.254 is that of most clouds.
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud's metadata service"}, // Alibaba
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud's metadata service"},   // Azure
	{netip.MustParsePrefix("192.0.0.192/32"), "a cloud's metadata service"},     // Oracle
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a cloud's metadata service"},  // AWS
	{netip.MustParsePrefix("fd20:ce::254/128"), "a cloud's metadata service"},   // Google
}

// translated are ranges whose last 32 bits are the IPv4 address that is reached (NAT64).
var translated = netip.MustParsePrefix("64:ff9b::/96")

// kind says what is guarded at an address, "" when nothing is.
func (g *Guard) kind(a netip.Addr) string {
	a = plain(a)
	switch {
	case a.IsLoopback():
		return "loopback"
	case a.IsUnspecified():
		return "this machine"
	case a.IsLinkLocalUnicast():
		return "link-local"
	case a.IsMulticast():
		return "multicast"
	}
	for _, r := range guarded {
		if r.prefix.Contains(a) {
			return r.kind
		}
	}
	for _, r := range g.options.Ranges {
		if r.Contains(a) {
			return "guarded range " + r.String()
		}
	}
	return ""
}

// plain gives the address that is reached: without zone, and in IPv4 where IPv6 only wraps
// it.
func plain(a netip.Addr) netip.Addr {
	a = a.WithZone("").Unmap()
	if translated.Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// ParseRange reads a range that a user wrote, such as 10.96.0.0/12. Bits beyond its length
// are refused: the range would not be what it looks like.
func ParseRange(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("must be a range of addresses such as 10.96.0.0/12 or fd00:10:96::/112")
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("has bits set beyond its length: write %s", p.Masked())
	case p.Addr().Is4In6():
		return netip.Prefix{}, errors.New("must be written as IPv4: such addresses are looked at as what they are")
	}
	return p, nil
}
