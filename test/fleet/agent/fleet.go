package agent

import (
	"fmt"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/test/fleet/engine"
)

const (
	// perConnection is how many agents share their connections: their watches and writes fit
	// into the 100 streams that the API server allows on one.
	perConnection = 40
	// account is the agents' service account.
	account = "system:serviceaccount:" + v1alpha1.SystemNamespace + ":edgecache-agent"
	// nodeNameKey is what a token bound to a pod says of its node.
	nodeNameKey = "authentication.kubernetes.io/node-name"
)

// Fleet is the agents of all nodes.
type Fleet struct {
	agents   []*Agent
	arrivals arrivals
}

// NewFleet makes an agent per node. None runs yet. admin is a client configuration that may
// impersonate; newEngine gives the container runtime of the i-th node.
func NewFleet(admin *rest.Config, nodes []string, newEngine func(i int) *engine.Engine) (*Fleet, error) {
	f := &Fleet{arrivals: arrivals{seconds: map[int64]int{}}}
	var shared http.RoundTripper
	for i, node := range nodes {
		if i%perConnection == 0 {
			var err error
			// client-go shares no transport between configurations with functions in them, and
			// the lab's have one: each call makes new connections.
			if shared, err = rest.TransportFor(admin); err != nil {
				return nil, fmt.Errorf("making the agents' connections: %w", err)
			}
		}
		a := &Agent{node: node, engine: newEngine(i), memory: newMemory(), link: newLink(shared, f.arrivals.note)}
		var err error
		if a.client, err = report.NewClient(asAgent(admin.Host, node, a.link), node); err != nil {
			return nil, err
		}
		f.agents = append(f.agents, a)
	}
	return f, nil
}

// asAgent is the configuration of an agent's clients, with the limits of cmd/edgecache-agent.
func asAgent(host, node string, way http.RoundTripper) *rest.Config {
	return &rest.Config{
		Host: host, Transport: way, QPS: 5, Burst: 10, UserAgent: "edgecache-agent/" + version,
		ContentConfig: rest.ContentConfig{ContentType: "application/json"},
		Impersonate: rest.ImpersonationConfig{
			UserName: account,
			Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + v1alpha1.SystemNamespace, "system:authenticated"},
			Extra:    map[string][]string{nodeNameKey: {node}},
		},
	}
}

// Agents gives all agents.
func (f *Fleet) Agents() []*Agent { return f.agents }

// Start runs all agents.
func (f *Fleet) Start() {
	for _, a := range f.agents {
		a.Start()
	}
}

// Stop ends all agents.
func (f *Fleet) Stop() {
	var wg sync.WaitGroup
	for _, a := range f.agents {
		wg.Go(a.Stop)
	}
	wg.Wait()
}

// Counts sums up what all engines did.
func (f *Fleet) Counts() (sum engine.Counts) {
	for _, a := range f.agents {
		sum.Add(a.engine.Counts())
	}
	return sum
}

// Reset begins new counts.
func (f *Fleet) Reset() {
	f.arrivals.reset()
	for _, a := range f.agents {
		a.engine.Reset()
	}
}

// BusiestSecond gives how many requests for objects and watches came in the busiest second
// since the last reset.
func (f *Fleet) BusiestSecond() int { return f.arrivals.busiest() }
