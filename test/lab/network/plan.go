package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

const (
	// blockBits is the size of a lab's block of addresses: 16 ranges of 256.
	blockBits = 20
	// podBits is the size of a machine's range of pod addresses.
	podBits = 26
	// firstPods is where, in a block, pod addresses begin: the two ranges before are the machines' and the services'.
	firstPods = 512
	// MaxMachines is how many machines, counted over a lab's life, a block has addresses for.
	MaxMachines = (1<<(32-blockBits) - firstPods) >> (32 - podBits)

	// registryPort and apiserverPort are the usual ones. The API server has that of the service "kubernetes", whose
	// address it listens on, so that pods reach it without a service proxy.
	registryPort  = 5000
	apiserverPort = 443
)

// space is where blocks are taken from: a corner of the private addresses that few networks use.
func space() netip.Prefix { return netip.MustParsePrefix("10.192.0.0/10") }

// plan says which address is whose in a block.
type plan struct{ block netip.Prefix }

// blocks is how many blocks the space has.
func blocks() int { return 1 << (blockBits - space().Bits()) }

// nth returns the plan of the n-th block.
func nth(n int) plan {
	return plan{netip.PrefixFrom(add(space().Addr(), n<<(32-blockBits)), blockBits)}
}

// add returns the address n after a.
func add(a netip.Addr, n int) netip.Addr {
	bytes := a.As4()
	binary.BigEndian.PutUint32(bytes[:], binary.BigEndian.Uint32(bytes[:])+uint32(n))
	return netip.AddrFrom4(bytes)
}

func (p plan) at(n int) netip.Addr    { return add(p.block.Addr(), n) }
func (p plan) host() netip.Addr       { return p.at(1) }
func (p plan) hub() netip.Addr        { return p.at(254) }
func (p plan) services() netip.Prefix { return netip.PrefixFrom(p.at(256), 24) }
func (p plan) apiserver() netip.Addr  { return p.at(257) }

// machine returns the address of the i-th machine, counted from 0, and the range of its pods.
func (p plan) machine(i int) (netip.Addr, netip.Prefix, error) {
	if i >= MaxMachines {
		return netip.Addr{}, netip.Prefix{}, fmt.Errorf("a lab has addresses for %d machines over its life, not more", MaxMachines)
	}
	return p.at(2 + i), netip.PrefixFrom(p.at(firstPods+i<<(32-podBits)), podBits), nil
}

// taken returns the destinations in the output of "ip -o route show table all". The default route leads everywhere and
// takes nothing.
func taken(routes string) []netip.Prefix {
	var prefixes []netip.Prefix
	for line := range strings.Lines(routes) {
		for _, field := range strings.Fields(line)[:min(2, len(strings.Fields(line)))] {
			// A type ("local", "broadcast") may come before the destination.
			if prefix, err := netip.ParsePrefix(field); err == nil {
				prefixes = append(prefixes, prefix)
			} else if addr, err := netip.ParseAddr(field); err == nil {
				prefixes = append(prefixes, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
	}
	return prefixes
}

// free returns the numbers of the blocks that overlap none of the prefixes, beginning with the given one and going
// round.
func free(first int, prefixes []netip.Prefix) []int {
	var numbers []int
	for i := range blocks() {
		n := (first + i) % blocks()
		overlaps := false
		for _, prefix := range prefixes {
			overlaps = overlaps || nth(n).block.Overlaps(prefix)
		}
		if !overlaps {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
