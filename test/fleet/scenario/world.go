package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/test/fleet/agent"
	"edgecache.dev/test/fleet/engine"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/product"
)

// Setting says how large a world is and how long things take in it.
type Setting struct {
	// Nodes is how many nodes there are; without Agents nobody acts on them.
	Nodes  int
	Agents bool
	// Pull is how long an image of median size takes on a median node; SlowPull in the
	// scenarios with slow links. Every 20th slow pull breaks off.
	Pull, SlowPull time.Duration
	// Kills is how often the controller is killed, Refreshes how often nothing is found to do.
	Kills, Refreshes int
	// RefreshEvery is the refresh interval there, Outage how long networks and registries are away.
	RefreshEvery, Outage time.Duration
	// ControllerArgs are further flags of the controller.
	ControllerArgs []string
	// Patience bounds each wait.
	Patience time.Duration
	// Seed makes the same sizes and links.
	Seed uint64
	// Out gets a line per step; nil is silent.
	Out io.Writer
}

// World is a fleet with a controller.
type World struct {
	Setting
	lab        *cluster.Cluster
	product    *product.Product
	edge       *versioned.Clientset
	kube       kubernetes.Interface
	controller *process.Process
	used       use // by controllers that are gone
	source     *engine.Source
	fleet      *agent.Fleet
	nodes      []string
	begin      time.Time
}

// LabOptions are those of a lab that a world can be made in: Nodes have no kubelet that would
// take the taint of new ones away.
func LabOptions(out io.Writer) cluster.Options {
	return cluster.Options{APIServerArgs: []string{"--disable-admission-plugins=TaintNodesByCondition"}, Out: out}
}

// New makes the world in a lab without nodes. The lab ends what of it are processes; Close the rest.
func New(ctx context.Context, lab *cluster.Cluster, s Setting) (*World, error) {
	if s.Out == nil {
		s.Out = io.Discard
	}
	w := &World{Setting: s, lab: lab, kube: lab.Client(), source: engine.NewSource(), begin: time.Now()}
	for i := range s.Nodes {
		w.nodes = append(w.nodes, "node-"+strconv.Itoa(i+1))
	}
	for _, step := range []func(context.Context) error{w.install, w.register, w.startController, w.startAgents} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// Close ends agents and controller.
func (w *World) Close() error {
	if w.fleet != nil {
		w.fleet.Stop()
	}
	if w.product == nil {
		return nil
	}
	return w.product.Close()
}

func (w *World) install(ctx context.Context) (err error) {
	if w.edge, err = versioned.NewForConfig(w.lab.ControlPlane().Admin()); err != nil {
		return fmt.Errorf("making client: %w", err)
	}
	w.product, err = product.Install(ctx, w.lab)
	return err
}

// startController returns when every node has its object.
func (w *World) startController(ctx context.Context) (err error) {
	if w.controller, err = w.product.Controller("controller", w.ControllerArgs...); err != nil {
		return err
	}
	w.say("waiting for %d objects", w.Nodes)
	return w.until(ctx, "every node has an object", func(ctx context.Context) error {
		n, err := w.objects(ctx)
		if err == nil && n != w.Nodes {
			err = fmt.Errorf("there are %d, want %d", n, w.Nodes)
		}
		return err
	})
}

func (w *World) startAgents(ctx context.Context) (err error) {
	if !w.Agents {
		return nil
	}
	w.fleet, err = agent.NewFleet(w.lab.ControlPlane().Admin(), w.nodes, func(i int) *engine.Engine {
		return engine.New(w.source, w.link(i, w.Pull))
	})
	if err != nil {
		return err
	}
	w.say("starting %d agents", w.Nodes)
	w.fleet.Start() //nolint:contextcheck // agents run until they are stopped
	return nil
}

// link is the i-th node's way to the registry: half of the nodes are within a fifth of the median.
func (w *World) link(i int, pull time.Duration) engine.Link {
	rng := rand.New(rand.NewPCG(w.Seed, uint64(i)))
	return engine.Link{
		BytesPerSecond: engine.MedianSize / pull.Seconds() * math.Exp(0.3*rng.NormFloat64()), Seed: rng.Uint64(),
	}
}

// slow makes all links slow and unreliable, or fast again.
func (w *World) slow(slow bool) {
	for i, a := range w.fleet.Agents() {
		link := w.link(i, w.Pull)
		if slow {
			link = w.link(i, w.SlowPull)
			link.Breaks = 0.05
		}
		a.Engine().SetLink(link)
	}
}

func (w *World) say(format string, args ...any) {
	fmt.Fprintf(w.Out, "%6.1fs  "+format+"\n", append([]any{time.Since(w.begin).Seconds()}, args...)...)
}

// pollEvery is the time between two looks.
const pollEvery = 200 * time.Millisecond

// until waits for something to hold.
func (w *World) until(ctx context.Context, what string, holds func(context.Context) error) error {
	return w.untilEvery(ctx, pollEvery, what, holds)
}

// untilEvery is the same with another time between two looks.
func (w *World) untilEvery(ctx context.Context, every time.Duration, what string, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		if wait(ctx, every) != nil {
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// each calls do for all items, some at a time, and joins the first errors.
func each[T any](items []T, do func(T) error) error {
	const atOnce = 16
	var wg sync.WaitGroup
	errs, work := make([]error, atOnce), make(chan T)
	for i := range errs {
		wg.Go(func() {
			for item := range work {
				if err := do(item); err != nil && errs[i] == nil {
					errs[i] = err
				}
			}
		})
	}
	for _, item := range items {
		work <- item
	}
	close(work)
	wg.Wait()
	return errors.Join(errs...)
}
