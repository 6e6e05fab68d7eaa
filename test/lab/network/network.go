package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"edgecache.dev/test/lab/capsule"
)

const (
	// hubUplink is the name of the hub's device towards the host; hubUplinkMAC and hostMAC are the addresses of the
	// two ends.
	hubUplink    = "up0"
	hubUplinkMAC = "02:ec:00:00:00:fe"
	hostMAC      = "02:ec:00:00:00:01"
	// claimAttempts bounds the race with labs that start at the same time.
	claimAttempts = 20
)

// Options say which network to make.
type Options struct {
	// Lab is the lab's identity; the host's device is called after it.
	Lab string
	// Command is the command line that serves a capsule, for the hub.
	Command []string
	// Log is the hub's log file.
	Log string
}

// A Network is a lab's network. Its methods may be called by several goroutines at once.
type Network struct {
	plan   plan
	hub    *capsule.Capsule
	device string // the host's

	mu       sync.Mutex // guards machines
	machines int        // ever attached
}

// Create makes a network. It needs root.
func Create(ctx context.Context, o Options) (*Network, error) {
	hub, err := capsule.Start(ctx, capsule.Options{
		Name: "hub", Command: o.Command, Log: o.Log,
		Setup: capsule.Setup{Hostname: "hub", Settings: map[string]string{"/proc/sys/net/ipv4/ip_forward": "1"}},
	})
	if err != nil {
		return nil, fmt.Errorf("making the lab's network: %w", err)
	}
	n := &Network{hub: hub, device: "ecl-" + o.Lab}
	if err := n.create(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("making the lab's network: %w", err), n.Close())
	}
	return n, nil
}

func (n *Network) create(ctx context.Context) error {
	err := onHost(ctx, "link", "add", "name", n.device, "address", hostMAC, "type", "veth",
		"peer", "name", hubUplink, "address", hubUplinkMAC, "netns", strconv.Itoa(n.hub.Pid()))
	if err != nil {
		return err
	}
	if err := onHost(ctx, "link", "set", n.device, "up"); err != nil {
		return err
	}
	if err := n.claim(ctx); err != nil {
		return err
	}
	if err := n.connectHost(ctx); err != nil {
		return err
	}
	return n.connectHub(ctx)
}

// claim takes a block that nothing on this machine uses.
func (n *Network) claim(ctx context.Context) error {
	for range claimAttempts {
		routes, err := exec.CommandContext(ctx, ipPath(), "-4", "-o", "route", "show", "table", "all").Output()
		if err != nil {
			return fmt.Errorf("listing routes: %w", err)
		}
		candidates := free(rand.IntN(blocks()), taken(string(routes)))
		if len(candidates) == 0 {
			return fmt.Errorf("no free /%d in %s", blockBits, space())
		}
		n.plan = nth(candidates[0])
		// Without "replace" this fails if the very same route is there: that decides who of two labs gets the block.
		err = onHost(ctx, "route", "add", n.plan.hub().String(), "dev", n.device)
		if err == nil || !strings.Contains(err.Error(), "File exists") {
			return err
		}
	}
	return fmt.Errorf("other labs took the block in %d attempts", claimAttempts)
}

// connectHost gives the host its addresses and the way to the block.
func (n *Network) connectHost(ctx context.Context) error {
	p := n.plan
	return onHostAll(ctx, [][]string{
		{"addr", "add", p.host().String() + "/32", "dev", n.device},
		{"addr", "add", p.apiserver().String() + "/32", "dev", n.device},
		{"route", "add", p.block.String(), "via", p.hub().String(), "dev", n.device, "src", p.host().String()},
	})
}

func (n *Network) connectHub(ctx context.Context) error {
	p := n.plan
	return onCapsule(ctx, n.hub, [][]string{
		{"link", "set", "lo", "up"},
		{"link", "set", hubUplink, "up"},
		{"addr", "add", p.hub().String() + "/32", "dev", "lo"},
		{"route", "add", p.host().String(), "dev", hubUplink},
		{"route", "add", p.apiserver().String(), "dev", hubUplink},
	})
}

// Registry returns the address where the lab's registry should listen.
func (n *Network) Registry() netip.AddrPort { return netip.AddrPortFrom(n.plan.host(), registryPort) }

// APIServer returns the address where the lab's API server should listen: that of the service "kubernetes".
func (n *Network) APIServer() netip.AddrPort {
	return netip.AddrPortFrom(n.plan.apiserver(), apiserverPort)
}

// Services returns the range of service addresses.
func (n *Network) Services() netip.Prefix { return n.plan.services() }

// Close removes the network and returns when its devices are gone from the host. It may be called again.
func (n *Network) Close() error {
	if err := n.hub.Close(); err != nil {
		return fmt.Errorf("removing the lab's network: %w", err)
	}
	// The kernel removes the device with the hub's namespace, but takes its time about it.
	_ = exec.Command(ipPath(), "link", "del", n.device).Run()
	return nil
}

// ipPath is where iproute2's ip is: system folders are not in every user's PATH.
func ipPath() string {
	if path, err := exec.LookPath("ip"); err == nil {
		return path
	}
	return "/usr/sbin/ip"
}

// onHost runs ip in the host's network namespace.
func onHost(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, ipPath(), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("running ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func onHostAll(ctx context.Context, commands [][]string) error {
	for _, args := range commands {
		if err := onHost(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// onCapsule runs ip in a capsule's network namespace.
func onCapsule(ctx context.Context, c *capsule.Capsule, commands [][]string) error {
	for _, args := range commands {
		if _, err := c.Run(ctx, append([]string{"ip"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}
