package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/test/lab/process"
)

const (
	// SiteLabel is the label that names a node's site.
	SiteLabel = "edgecache.dev/site"
	// Group is the group of all nodes' identities.
	Group = "system:nodes"
	// UserPrefix begins the user name of a node's identity.
	UserPrefix = "system:node:"
)

// A Spec says what a node is to be.
type Spec struct {
	// Name is the Node object's name and the node's hostname.
	Name string
	// Site is the value of the label edgecache.dev/site; empty is no label.
	Site string
	// Labels are further labels of the Node object.
	Labels map[string]string
}

// AllLabels returns the labels that the Node object gets from the lab.
func (s Spec) AllLabels() map[string]string {
	labels := map[string]string{corev1.LabelHostname: s.Name}
	if s.Site != "" {
		labels[SiteLabel] = s.Site
	}
	maps.Copy(labels, s.Labels)
	return labels
}

// User returns the user name of the node's identity.
func (s Spec) User() string { return UserPrefix + s.Name }

// A Host is what a node runs on.
type Host interface {
	// Starter runs programs on the node. It fails while the node is off.
	process.Starter
	// PowerOn brings the node up and returns when the control plane knows it as Ready.
	PowerOn(ctx context.Context) error
	// PowerOff ends everything that runs on the node, at once.
	PowerOff() error
	// PauseHeartbeat makes the node silent towards the control plane, or lets it speak again.
	PauseHeartbeat(pause bool) error
	// IP is the node's address.
	IP() string
	// Close gives back what the host has; the node is off and stays so.
	Close() error
}

// Config is what a node needs besides its Spec.
type Config struct {
	// Dir is the node's folder.
	Dir string
	// LogDir is the folder of its logs.
	LogDir string
	// Kubeconfig is the path of a kubeconfig with the node's identity.
	Kubeconfig string
	// Host is what the node runs on.
	Host Host
}

// A Node is one node of the cluster. Its methods may be called by several goroutines at once.
type Node struct {
	spec   Spec
	config Config

	mu       sync.Mutex // guards programs
	programs []*process.Process
}

// New returns a node that is off.
func New(s Spec, c Config) *Node { return &Node{spec: s, config: c} }

// Name returns the node's name.
func (n *Node) Name() string { return n.spec.Name }

// Site returns the node's site.
func (n *Node) Site() string { return n.spec.Site }

// Spec returns what the node was asked to be.
func (n *Node) Spec() Spec { return n.spec }

// Dir returns the node's folder, which programs that run on the node see under the same path.
func (n *Node) Dir() string { return n.config.Dir }

// Kubeconfig returns the path of a kubeconfig with the node's identity: user system:node:<name>, group system:nodes.
func (n *Node) Kubeconfig() string { return n.config.Kubeconfig }

// IP returns the node's address.
func (n *Node) IP() string { return n.config.Host.IP() }

// Host returns what the node runs on: a *machine.Machine has more to offer.
func (n *Node) Host() Host { return n.config.Host }

// Run runs a program on the node: its name, command line and what its environment has besides [process.CleanEnv]. The
// program ends with the node; it does not come back with it by itself, but its Restart works once the node is on again.
func (n *Node) Run(name string, argv []string, env ...string) (*process.Process, error) {
	p, err := process.Start(n.config.Host, process.Command{
		Name: n.spec.Name + "/" + name,
		Argv: argv,
		Env:  append(process.CleanEnv(), env...),
		Dir:  n.config.Dir,
		Log:  filepath.Join(n.config.LogDir, name+".log"),
	})
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.programs = append(n.programs, p)
	return p, nil
}

// Start powers the node on and returns when it is Ready.
func (n *Node) Start(ctx context.Context) error {
	if err := n.config.Host.PowerOn(ctx); err != nil {
		return fmt.Errorf("starting node %s: %w", n.spec.Name, err)
	}
	return nil
}

// Stop powers the node off: everything on it ends as in a power cut, except that what was written is on disk.
func (n *Node) Stop() error {
	err := n.config.Host.PowerOff()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.programs {
		err = errors.Join(err, p.Kill())
	}
	if err != nil {
		return fmt.Errorf("stopping node %s: %w", n.spec.Name, err)
	}
	return nil
}

// PauseHeartbeat makes the node silent towards the control plane, as if its kubelet hung.
func (n *Node) PauseHeartbeat() error { return n.config.Host.PauseHeartbeat(true) }

// ResumeHeartbeat ends PauseHeartbeat.
func (n *Node) ResumeHeartbeat() error { return n.config.Host.PauseHeartbeat(false) }

// Close powers the node off for good.
func (n *Node) Close() error { return errors.Join(n.Stop(), n.config.Host.Close()) }
