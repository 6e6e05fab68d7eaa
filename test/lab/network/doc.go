// Package network connects the lab's machines with each other and with the host.
//
// It owns a block of private addresses, a router in a network namespace of its own (a capsule, the hub), one link from the
// hub to the host and one to each machine, and what can go wrong on a machine's link: [Link.Down] (silence),
// [Link.Block] (refusal), [Link.Limit] (a thin line).
//
//	host  10.x.0.1 registry, 10.x.1.1 API server
//	  |
//	 hub  10.x.0.254
//	  |  \  \
//	machines 10.x.0.2, .3, …  with pods 10.x.2.0/26, 10.x.2.64/26, …
//
// Everything is routed, nothing bridged or translated: no firewall module is needed, and a host that filters bridged
// traffic for another container engine does not filter this.
//
// It never changes the host's own devices, rules or settings.
//
// Invariants:
//
//  1. All devices hang on the hub's namespace. When the hub ends, the kernel removes them, the host's end and its routes
//     included; nothing is left to tidy up.
//  2. Two labs never share a block: the route to it on the host is made so that the second one's attempt fails.
//  3. Servers listen on lab addresses only, which no other machine can reach.
//
// The hub's end takes the network away from all machines at once, like a site-wide power cut of the network gear.
package network
