package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"edgecache.dev/test/lab/node"
)

const (
	// awaitTimeout bounds the wait for a node's readiness, either way: the controller manager needs up to a minute to lose
	// patience with a silent node.
	awaitTimeout = 5 * time.Minute
	awaitPoll    = 100 * time.Millisecond
)

// Nodes returns the nodes by name, node-2 before node-10.
func (c *Cluster) Nodes() []*node.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var nodes []*node.Node
	for _, n := range c.nodes {
		if n != nil {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *node.Node) int { return compareNames(a.Name(), b.Name()) })
	return nodes
}

// compareNames orders node-2 before node-10.
func compareNames(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// Node returns the node of that name, nil if there is none.
func (c *Cluster) Node(name string) *node.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[name]
}

// RemoveNode powers a node off for good and deletes its Node object, as when a machine is given up.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	n := c.Node(name)
	if n == nil {
		return fmt.Errorf("removing node %s: there is none", name)
	}
	if err := n.Close(); err != nil {
		return fmt.Errorf("removing node %s: %w", name, err)
	}
	c.strike(name)
	err := c.client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("removing node %s: %w", name, err)
	}
	return nil
}

// AwaitReady waits until the control plane holds the named node to be Ready, or not to be.
func (c *Cluster) AwaitReady(ctx context.Context, name string, ready bool) error {
	var last string
	err := wait.PollUntilContextTimeout(ctx, awaitPoll, awaitTimeout, true, func(ctx context.Context) (bool, error) {
		var done bool
		done, last = c.hasReadiness(ctx, name, ready)
		return done, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for node %s to have Ready=%v: %w (last seen: %s)", name, ready, err, last)
	}
	return nil
}

// hasReadiness tells whether the control plane holds the named node to be Ready, or not to be, and what it says. A control
// plane that does not answer says neither.
func (c *Cluster) hasReadiness(ctx context.Context, name string, ready bool) (bool, string) {
	n, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, err.Error()
	}
	is, why := readiness(n)
	return is == ready, why
}

// readiness tells whether a Node object is Ready, and in what words.
func readiness(n *corev1.Node) (ready bool, why string) {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, fmt.Sprintf("%s, %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return false, "no condition"
}

// Close ends the lab and removes all of it. It may be called again, from any goroutine; nodes that are being added are
// given up.
func (c *Cluster) Close() error { return c.close() }

func (c *Cluster) tearDown() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	close(c.closing)
	c.adding.Wait()
	if err := errors.Join(append(closeAll(c.Nodes()), c.closeParts()...)...); err != nil {
		return fmt.Errorf("closing the lab: %w", err)
	}
	return nil
}

// closeParts closes what the nodes need, in reverse order of its making.
func (c *Cluster) closeParts() []error {
	errs := c.killServers()
	if c.ground != nil {
		errs = append(errs, c.ground.close())
	}
	if c.reg != nil {
		errs = append(errs, c.reg.Close())
	}
	if c.plane != nil {
		errs = append(errs, c.plane.Close())
	}
	if c.dir != nil {
		errs = append(errs, c.dir.Close())
	}
	if c.janitor != nil {
		errs = append(errs, c.janitor.Dismiss())
	}
	return errs
}

// killServers ends what Run has started.
func (c *Cluster) killServers() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range c.servers {
		errs = append(errs, p.Kill())
	}
	return errs
}

func closeAll(nodes []*node.Node) []error {
	var wg sync.WaitGroup
	errs := make([]error, len(nodes))
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.Close() })
	}
	wg.Wait()
	return errs
}
