package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"edgecache.dev/test/lab/machine"
	"edgecache.dev/test/lab/network"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/testimage"
)

// pauseImage is the sandbox image's name in the lab's registry.
const pauseImage = "lab/pause:1"

var _ node.Host = (*machine.Machine)(nil)

// machineGround is what containerd nodes stand on: a network, and the sandbox image.
type machineGround struct {
	c       *Cluster
	network *network.Network
	pause   testimage.Pushed
	archive string // path of an archive with the sandbox image; empty if machines shall pull it
}

func newMachineGround(ctx context.Context, c *Cluster) (*machineGround, error) {
	n, err := network.Create(ctx, network.Options{
		Lab: c.dir.Lab(), Command: c.capsule(c.dir.Path()), Log: filepath.Join(c.options.LogDir, "hub.log"),
	})
	if err != nil {
		return nil, err
	}
	return &machineGround{c: c, network: n}, nil
}

// capsule is the command line that serves a capsule. The last argument is for those who look at a list of processes.
func (c *Cluster) capsule(of ...string) []string {
	return append([]string{c.options.Command, "capsule"}, of...)
}

// preparePause makes the sandbox image, from nothing like all others, and offers it to the machines.
func (g *machineGround) preparePause(ctx context.Context) error {
	program, err := testimage.Pause.Build(ctx, g.c.options.Tools, "")
	if err != nil {
		return err
	}
	image, err := testimage.Image(testimage.Spec{Program: program})
	if err != nil {
		return err
	}
	if g.pause, err = g.c.Push(ctx, pauseImage, image); err != nil || !g.c.options.PreloadPause {
		return err
	}
	g.archive = filepath.Join(g.c.dir.Path(), "pause.tar")
	return writeArchive(g.archive, g.pause.Name, image)
}

func writeArchive(path, reference string, image v1.Image) error {
	tag, err := name.NewTag(reference, name.Insecure)
	if err != nil {
		return fmt.Errorf("writing an image archive: %w", err)
	}
	if err := tarball.WriteToFile(path, tag, image); err != nil {
		return fmt.Errorf("writing an image archive: %w", err)
	}
	return nil
}

// host returns a machine that is off.
func (g *machineGround) host(_ context.Context, s node.Spec, dir, logDir string) (node.Host, error) {
	link, err := g.network.NewLink()
	if err != nil {
		return nil, err
	}
	c := g.c
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return nil, err
	}
	return machine.New(machine.Options{
		Name: s.Name, Labels: s.AllLabels(), Dir: dir, LogDir: logDir, Keep: []string{c.dir.Path()}, Own: c.options.Own,
		Capsule: c.capsule(), Bin: c.options.Tools.Bin(), Link: link,
		Registry: c.reg.Addr(), Pause: g.pause.Name, PauseArchive: g.archive,
		Kubeconfig: filepath.Join(dir, kubeconfigName), CAFile: c.plane.CAFile(), Cgroup: c.dir.Cgroup(),
		ClusterDNS: dnsAddress(g.network), Kubelet: c.options.Kubelet, Containerd: c.options.Containerd,
		Client: c.client, Alone: c.options.ControllerManager == nil,
	}), nil
}

// dnsAddress is the tenth service address, where clusters usually have their name server.
func dnsAddress(n *network.Network) string {
	addr := n.Services().Addr()
	for range 10 {
		addr = addr.Next()
	}
	return addr.String()
}

func (g *machineGround) close() error { return g.network.Close() }

// Machine returns what the named node runs on, with containerd, kubelet and a line that can fail. It is nil for a layout
// node.
func (c *Cluster) Machine(name string) *machine.Machine {
	n := c.Node(name)
	if n == nil {
		return nil
	}
	m, _ := n.Host().(*machine.Machine)
	return m
}

// Network returns the network of containerd nodes, nil if the nodes are layout nodes.
func (c *Cluster) Network() *network.Network {
	if g, ok := c.ground.(*machineGround); ok {
		return g.network
	}
	return nil
}
