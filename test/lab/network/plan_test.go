package network

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlansDoNotOverlap(t *testing.T) {
	t.Parallel()
	seen := map[netip.Addr]bool{}
	for n := range blocks() {
		p := nth(n)
		if p.block != p.block.Masked() || !space().Overlaps(p.block) || seen[p.block.Addr()] {
			t.Fatalf("block %d is %s", n, p.block)
		}
		seen[p.block.Addr()] = true
	}
	p := nth(3)
	used := []netip.Addr{p.host(), p.hub()}
	ranges := []netip.Prefix{p.services()}
	for i := range MaxMachines {
		addr, pods, err := p.machine(i)
		if err != nil || !p.block.Contains(addr) || !p.block.Contains(pods.Addr()) || pods != pods.Masked() {
			t.Fatalf("machine %d: %s, %s, %v in %s", i, addr, pods, err, p.block)
		}
		used, ranges = append(used, addr), append(ranges, pods)
	}
	for i, a := range used {
		if slices.Contains(used[:i], a) || slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) }) {
			t.Errorf("address %s is used twice", a)
		}
	}
	for i, r := range ranges {
		if slices.ContainsFunc(ranges[:i], r.Overlaps) {
			t.Errorf("range %s overlaps another", r)
		}
	}
	if _, _, err := p.machine(MaxMachines); err == nil {
		t.Error("a machine beyond the block got an address")
	}
	// The first address of the services is that of the service "kubernetes".
	if p.apiserver() != p.services().Addr().Next() {
		t.Errorf("API server at %s, services %s", p.apiserver(), p.services())
	}
}

func TestTakenReadsDestinations(t *testing.T) {
	t.Parallel()
	const routes = `default via 172.16.0.1 dev eth0
10.200.0.0/20 via 10.200.0.254 dev ecl-abc src 10.200.0.1
local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1
broadcast 172.16.0.3 dev eth0 table local
unreachable 10.3.0.0/16 metric 5
10.9.9.9 dev tun0 scope link

`
	want := []netip.Prefix{
		netip.MustParsePrefix("10.200.0.0/20"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("172.16.0.3/32"),
		netip.MustParsePrefix("10.3.0.0/16"), netip.MustParsePrefix("10.9.9.9/32"),
	}
	if diff := cmp.Diff(want, taken(routes), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
}

func TestFreeAvoidsWhatIsTaken(t *testing.T) {
	t.Parallel()
	all := free(5, nil)
	if len(all) != blocks() || all[0] != 5 {
		t.Errorf("%d blocks beginning with %d", len(all), all[0])
	}
	half := free(0, []netip.Prefix{netip.MustParsePrefix("10.192.0.0/11"), netip.MustParsePrefix("10.224.0.7/32")})
	if want := blocks()/2 + 1; len(half) != blocks()/2-1 || half[0] != want {
		t.Errorf("%d blocks beginning with %d, want %d beginning with %d", len(half), half[0], blocks()/2-1, want)
	}
	if none := free(0, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); len(none) != 0 {
		t.Errorf("%d blocks in a network that is taken", len(none))
	}
}
