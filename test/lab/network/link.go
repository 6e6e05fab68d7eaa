package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"edgecache.dev/test/lab/capsule"
)

// machineDevice is the name of a machine's device.
const machineDevice = "eth0"

// A Link is a machine's place in the network. The place outlives the machine's power: it is attached again, with the
// same addresses and without the faults of before, when the machine comes back. Its methods must not be called at once.
type Link struct {
	network *Network
	index   int
	addr    netip.Addr
	pods    netip.Prefix

	machine *capsule.Capsule // nil while detached
	port    string           // the hub's device towards the machine
	times   int              // how often it was attached
}

// NewLink returns a place for one more machine, with nothing attached.
func (n *Network) NewLink() (*Link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr, pods, err := n.plan.machine(n.machines)
	if err != nil {
		return nil, err
	}
	l := &Link{network: n, index: n.machines, addr: addr, pods: pods}
	n.machines++
	return l, nil
}

// Addr returns the machine's address.
func (l *Link) Addr() netip.Addr { return l.addr }

// Pods returns the range of the machine's pod addresses.
func (l *Link) Pods() netip.Prefix { return l.pods }

// Gateway returns the router's address as the machine sees it.
func (l *Link) Gateway() netip.Addr { return l.network.plan.hub() }

// Attach connects a machine's capsule.
func (l *Link) Attach(ctx context.Context, machine *capsule.Capsule) error {
	l.times++
	// A new name each time: the kernel may still be about to remove the former.
	l.machine, l.port = machine, fmt.Sprintf("m%d-%d", l.index, l.times)
	err := onHost(ctx, "link", "add", "name", l.port, "address", l.mac(0xfe), "netns", strconv.Itoa(l.network.hub.Pid()),
		"type", "veth", "peer", "name", machineDevice, "address", l.mac(0x01), "netns", strconv.Itoa(machine.Pid()))
	if err != nil {
		return fmt.Errorf("attaching a machine: %w", err)
	}
	if err := errors.Join(l.configureMachine(ctx), l.Up(ctx)); err != nil {
		return fmt.Errorf("attaching a machine: %w", err)
	}
	return nil
}

// mac returns the hardware address of one end of the link.
func (l *Link) mac(end int) string { return fmt.Sprintf("02:ec:00:01:%02x:%02x", l.index, end) }

// configureMachine gives the machine its address and the way to everything else. The neighbour is entered by hand, so
// that a silent link stays silent: asking for it in vain would turn into "no route to host".
func (l *Link) configureMachine(ctx context.Context) error {
	gateway := l.Gateway().String()
	return onCapsule(ctx, l.machine, [][]string{
		{"link", "set", "lo", "up"},
		{"link", "set", machineDevice, "up"},
		{"addr", "add", l.addr.String() + "/32", "dev", machineDevice},
		{"route", "add", gateway, "dev", machineDevice},
		{"neigh", "replace", gateway, "lladdr", l.mac(0xfe), "nud", "permanent", "dev", machineDevice},
		{"route", "add", "default", "via", gateway, "dev", machineDevice},
	})
}

// Detach takes the link's devices away. It does nothing if no machine is attached.
func (l *Link) Detach(ctx context.Context) error {
	if l.machine == nil {
		return nil
	}
	l.machine = nil
	err := onCapsule(ctx, l.network.hub, [][]string{{"link", "del", l.port}})
	if err != nil && strings.Contains(err.Error(), "Cannot find device") {
		// The machine is off, and the kernel has already removed the link with the machine's namespace.
		return nil
	}
	return err
}

// Down takes the link's power: packets vanish both ways and nobody is told. Connections hang, new ones too.
func (l *Link) Down(ctx context.Context) error {
	return onCapsule(ctx, l.network.hub, [][]string{
		// Else the hub, whose way to the machine goes with the device, would tell the host that there is none.
		{"route", "replace", "blackhole", l.addr.String(), "metric", "1000"},
		{"route", "replace", "blackhole", l.pods.String(), "metric", "1000"},
		{"link", "set", l.port, "down"},
	})
}

// Up brings the link back.
func (l *Link) Up(ctx context.Context) error {
	return onCapsule(ctx, l.network.hub, [][]string{
		{"link", "set", l.port, "up"},
		{"neigh", "replace", l.addr.String(), "lladdr", l.mac(0x01), "nud", "permanent", "dev", l.port},
		{"route", "replace", l.addr.String(), "dev", l.port},
		{"route", "replace", l.pods.String(), "via", l.addr.String(), "dev", l.port, "onlink"},
	})
}

// Block refuses the machine's packets to the given addresses at once, as a router does that has no route; without
// addresses it refuses all. New connections fail with "no route to host"; open ones hang.
func (l *Link) Block(ctx context.Context, addrs ...netip.Addr) error {
	if len(addrs) == 0 {
		return l.onMachine(ctx, []string{"route", "replace", "unreachable", "default"})
	}
	for _, a := range addrs {
		if err := l.onMachine(ctx, []string{"route", "replace", "unreachable", a.String()}); err != nil {
			return err
		}
	}
	return nil
}

// Unblock ends Block, for the same addresses.
func (l *Link) Unblock(ctx context.Context, addrs ...netip.Addr) error {
	if len(addrs) == 0 {
		return l.onMachine(ctx, []string{"route", "replace", "default", "via", l.Gateway().String(), "dev", machineDevice})
	}
	for _, a := range addrs {
		if err := l.onMachine(ctx, []string{"route", "del", "unreachable", a.String()}); err != nil {
			return err
		}
	}
	return nil
}

func (l *Link) onMachine(ctx context.Context, args []string) error {
	if l.machine == nil {
		return errors.New("no machine is attached to the link")
	}
	return onCapsule(ctx, l.machine, [][]string{args})
}

// Limit bounds what the machine receives to so many bytes per second; 0 ends the limit. It needs tc and the kernel's
// tbf.
func (l *Link) Limit(ctx context.Context, bytesPerSecond int64) error {
	argv := []string{"tc", "qdisc", "replace", "dev", l.port, "root", "tbf", "rate", fmt.Sprintf("%dbit", 8*bytesPerSecond),
		// Enough for the rate at a kernel's slowest tick, and a queue of a quarter of a second.
		"burst", strconv.FormatInt(max(16<<10, bytesPerSecond/50), 10), "latency", "250ms"}
	if bytesPerSecond <= 0 {
		argv = []string{"tc", "qdisc", "del", "dev", l.port, "root"}
	}
	_, err := l.network.hub.Run(ctx, argv...)
	return err
}
