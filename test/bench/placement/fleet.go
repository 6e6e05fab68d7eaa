package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
)

const (
	siteCount, nodesPerSite = 4, 10
	// What a pod asks for: on an empty node with four cores there is room for ten.
	podMilliCPU, podMegabytes = 400, 512
)

// site is a place with one uplink.
type site struct {
	name   string
	uplink float64 // bytes per second, shared by all of its nodes
	// noRegistry is until when the registry cannot be reached from here, in seconds; 0 always can. The API server can.
	noRegistry float64
}

// node is a machine. Speeds are true ones, in bytes per second; told are those that its status shows, 0 for unknown.
type node struct {
	name                  string
	site                  int
	arch                  string
	milliCPU              int64
	ballast               int64 // milliCPU that other pods take
	speed, unpack         float64
	toldSpeed, toldUnpack int64
	holds                 []*image
}

// fleet makes the sites and their nodes.
func fleet(rng *rand.Rand) ([]*site, []*node) {
	var sites []*site
	var nodes []*node
	for s := range siteCount {
		sites = append(sites, &site{name: fmt.Sprintf("site-%d", s+1), uplink: around(rng, 2.5*megabyte, 0.5)})
		for i := range nodesPerSite {
			n := &node{
				name: fmt.Sprintf("s%d-n%02d", s+1, i+1), site: s, arch: amd64, milliCPU: 4000,
				speed: around(rng, 8*megabyte, 0.5), unpack: around(rng, 25*megabyte, 0.4),
			}
			if rng.Float64() < 0.3 {
				n.milliCPU = 2000
			}
			n.ballast = n.milliCPU * rng.Int64N(51) / 100
			nodes = append(nodes, n)
		}
	}
	return sites, nodes
}

// tell sets what the nodes' status shows of their speeds: off by a third, for one in ten by a factor of three either way,
// and for one in ten not known. Agents measure their pulls, and others use the uplink beside them: half of it is seen.
func tell(rng *rand.Rand, sites []*site, nodes []*node) {
	for _, n := range nodes {
		seen := around(rng, min(n.speed, sites[n.site].uplink/2), 0.3)
		switch luck := rng.IntN(20); {
		case luck == 0:
			seen *= 3
		case luck == 1:
			seen /= 3
		case luck < 4:
			seen = 0
		}
		n.toldSpeed = int64(seen)
		if n.toldUnpack = int64(around(rng, n.unpack, 0.2)); rng.IntN(10) == 0 {
			n.toldUnpack = 0
		}
	}
}

// around is log-normal: half of the values are below the median.
func around(rng *rand.Rand, median, sigma float64) float64 {
	return median * math.Exp(sigma*rng.NormFloat64())
}
