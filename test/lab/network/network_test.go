package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgecache.dev/test/lab/capsule"
	"edgecache.dev/test/lab/omit"
)

// TestMain lets the test binary play the inside of a capsule, and a client and a server in there.
func TestMain(m *testing.M) {
	var err error
	switch os.Getenv("NETWORK_TEST_ROLE") {
	case "inside":
		err = capsule.Serve()
	case "client":
		patience, err := time.ParseDuration(os.Args[2])
		if err != nil {
			panic(err)
		}
		fmt.Println(dial(os.Args[1], patience))
	case "server":
		err = serve(os.Args[1])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	// patience bounds each wait for what must come: how long a machine may be busy with other tests.
	patience = 2 * time.Minute
	// silence is how long a client waits where nothing shall come: much longer than an answer takes. On a busy machine it
	// sees less than it could, but never what is not there.
	silence = 2 * time.Second
)

// dial connects, reads everything and says in one word what happened.
func dial(addr string, patience time.Duration) string {
	begin := time.Now()
	conn, err := net.DialTimeout("tcp4", addr, patience)
	if err == nil {
		var n int64
		n, err = io.Copy(io.Discard, conn)
		_ = conn.Close()
		if err == nil {
			return fmt.Sprintf("connected %d %dms", n, time.Since(begin).Milliseconds())
		}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "silence"
	}
	for errno, word := range map[syscall.Errno]string{
		syscall.EHOSTUNREACH: "unreachable", syscall.ENETUNREACH: "unroutable", syscall.ECONNREFUSED: "refused",
	} {
		if errors.Is(err, errno) {
			return word
		}
	}
	return err.Error()
}

const greeting = "hello"

// serve greets everyone who connects.
func serve(addr string) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	return greet(l, greeting)
}

func greet(l net.Listener, text string) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

func as(role string, args ...string) []string {
	return append([]string{"/usr/bin/env", "NETWORK_TEST_ROLE=" + role, os.Args[0]}, args...)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		omit.Test(t, "a network needs root, this is user %d", os.Geteuid())
	}
	if _, err := os.Stat(ipPath()); err != nil {
		omit.Test(t, "a network needs iproute2: %v", err)
	}
}

func newNetwork(t *testing.T) *Network {
	t.Helper()
	needRoot(t)
	// Another run of this test may be on the machine.
	lab := strings.ToLower(rand.Text()[:6])
	n, err := Create(t.Context(), Options{Lab: lab, Command: as("inside"), Log: filepath.Join(t.TempDir(), "hub.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newCapsule(t *testing.T) *capsule.Capsule {
	t.Helper()
	c, err := capsule.Start(t.Context(), capsule.Options{Name: "machine", Command: as("inside"), Log: filepath.Join(t.TempDir(), "machine.log")})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

// machine attaches a new machine.
func machine(t *testing.T, n *Network) (*capsule.Capsule, *Link) {
	t.Helper()
	c := newCapsule(t)
	l, err := n.NewLink()
	must(t, err)
	must(t, l.Attach(t.Context(), c))
	return c, l
}

func listen(t *testing.T, addr string, text string) {
	t.Helper()
	l, err := net.Listen("tcp4", addr)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	go func() { _ = greet(l, text) }()
}

func from(t *testing.T, c *capsule.Capsule, addr string) string {
	t.Helper()
	return fromWithin(t, c, addr, patience)
}

func fromWithin(t *testing.T, c *capsule.Capsule, addr string, patience time.Duration) string {
	t.Helper()
	out, err := c.Run(t.Context(), as("client", addr, patience.String())...)
	must(t, err)
	word, _, _ := strings.Cut(strings.TrimSpace(out), " ")
	return word
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestMachinesReachHostAndEachOther(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	listen(t, n.Registry().String(), greeting)
	listen(t, n.APIServer().String(), greeting)
	a, _ := machine(t, n)
	b, linkB := machine(t, n)
	expect(t, "machine to registry", from(t, a, n.Registry().String()), "connected")
	expect(t, "machine to API server", from(t, a, n.APIServer().String()), "connected")
	expect(t, "machine to a machine without server", from(t, a, linkB.Addr().String()+":80"), "refused")
	// A pod's address on b: any in its range that b has.
	pod := linkB.Pods().Addr().Next()
	must(t, onCapsule(t.Context(), b, [][]string{{"addr", "add", pod.String() + "/32", "dev", "lo"}}))
	server := pod.String() + ":8080"
	go func() { _, _ = b.Run(t.Context(), as("server", server)...) }()
	for deadline := time.Now().Add(patience); from(t, a, server) != "connected"; {
		if time.Now().After(deadline) {
			t.Fatalf("machine to another's pod: %s", from(t, a, server))
		}
	}
	expect(t, "host to a pod", strings.Fields(dial(server, patience))[0], "connected")
	expect(t, "machine to the world", from(t, a, "203.0.113.1:80"), "unroutable")
}

func TestADownLinkIsSilent(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	listen(t, n.Registry().String(), greeting)
	c, l := machine(t, n)
	other, _ := machine(t, n)
	must(t, l.Down(t.Context()))
	expect(t, "down", fromWithin(t, c, n.Registry().String(), silence), "silence")
	expect(t, "down, from the host", dial(l.Addr().String()+":80", silence), "silence")
	expect(t, "another machine meanwhile", from(t, other, n.Registry().String()), "connected")
	must(t, l.Up(t.Context()))
	expect(t, "up again", from(t, c, n.Registry().String()), "connected")
}

func TestABlockedWayIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	listen(t, n.Registry().String(), greeting)
	listen(t, n.APIServer().String(), greeting)
	c, l := machine(t, n)
	must(t, l.Block(t.Context(), n.Registry().Addr()))
	expect(t, "the blocked one", from(t, c, n.Registry().String()), "unreachable")
	expect(t, "the other", from(t, c, n.APIServer().String()), "connected")
	must(t, l.Unblock(t.Context(), n.Registry().Addr()), l.Block(t.Context()))
	expect(t, "all blocked", from(t, c, n.APIServer().String()), "unreachable")
	must(t, l.Unblock(t.Context()))
	expect(t, "unblocked", from(t, c, n.Registry().String()), "connected")
}

func TestALimitedLinkIsSlow(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	if _, err := n.hub.Run(t.Context(), "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit", "burst", "32kbit", "latency", "50ms"); err != nil {
		omit.Test(t, "traffic cannot be shaped here: %v", err)
	}
	listen(t, n.Registry().String(), strings.Repeat("x", 2<<20))
	c, l := machine(t, n)
	must(t, l.Limit(t.Context(), 1<<20))
	begin := time.Now()
	expect(t, "limited", from(t, c, n.Registry().String()), "connected")
	if took := time.Since(begin); took < 1500*time.Millisecond {
		t.Errorf("2 MiB at 1 MiB/s took %s", took)
	}
	// At a rate that would take ten minutes, so that a busy machine is not taken for a limit that stays.
	must(t, l.Limit(t.Context(), 4<<10), l.Limit(t.Context(), 0))
	begin = time.Now()
	expect(t, "free again", from(t, c, n.Registry().String()), "connected")
	if took := time.Since(begin); took > patience {
		t.Errorf("2 MiB without limit took %s", took)
	}
}

func TestAMachineComesBackWithItsAddress(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	listen(t, n.Registry().String(), greeting)
	first, l := machine(t, n)
	before := l.Addr()
	// Once in good order, once with the power cut.
	must(t, l.Detach(t.Context()), l.Detach(t.Context()))
	for range 2 {
		second := newCapsule(t)
		must(t, l.Attach(t.Context(), second))
		expect(t, "after coming back", from(t, second, n.Registry().String()), "connected")
		must(t, second.Close())
	}
	if l.Addr() != before {
		t.Errorf("address %s became %s", before, l.Addr())
	}
	must(t, first.Close())
}

func TestNetworksDoNotShareABlock(t *testing.T) {
	t.Parallel()
	a, b := newNetwork(t), newNetwork(t)
	if a.plan.block.Overlaps(b.plan.block) {
		t.Errorf("%s and %s overlap", a.plan.block, b.plan.block)
	}
	must(t, a.Close(), a.Close())
	if _, err := net.InterfaceByName(a.device); err == nil {
		t.Error("a closed network left its device")
	}
	routes, err := exec.CommandContext(t.Context(), ipPath(), "route", "get", b.plan.host().String()).CombinedOutput()
	if err != nil || !strings.Contains(string(routes), "local") {
		t.Errorf("the other network is disturbed: %s, %v", routes, err)
	}
}

func TestTheKernelRemovesTheNetworkOfADeadHub(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	_, l := machine(t, n)
	must(t, n.hub.Close())
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		_, err := net.InterfaceByName(n.device)
		if err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the host's device is still there")
		}
	}
	if routes, _ := exec.CommandContext(t.Context(), ipPath(), "route").Output(); strings.Contains(string(routes), l.Gateway().String()) {
		t.Errorf("routes are left:\n%s", routes)
	}
}
