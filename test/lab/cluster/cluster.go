package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/labdir"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/lab/toolchain"
)

// A Cluster is a running lab. Its methods may be called by several goroutines at once.
type Cluster struct {
	options Options
	dir     *labdir.Dir
	janitor *labdir.Janitor
	plane   *controlplane.ControlPlane
	reg     *registry.Registry
	client  kubernetes.Interface
	ground  ground

	closing chan struct{}  // closed when Close begins
	adding  sync.WaitGroup // calls of AddNode; Close waits for them
	close   func() error   // what Close does, once

	mu      sync.Mutex            // guards what follows, and that adding grows only while the lab is open
	nodes   map[string]*node.Node // by name; nil while it is being made
	servers []*process.Process    // started by Run
	counter int                   // nodes ever added
	closed  bool
}

// kubeconfigName is the file with a node's identity, in the node's folder.
const kubeconfigName = "kubelet.kubeconfig"

// ground is what all nodes of a cluster stand on: nothing for layout nodes, a network and images for machines.
type ground interface {
	// host returns what a node runs on.
	host(ctx context.Context, s node.Spec, dir, logDir string) (node.Host, error)
	// close gives back what the nodes stood on; all of them are closed.
	close() error
}

// Start builds what is missing, starts a cluster and returns when all of its nodes are Ready.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("starting a lab: %w", err)
	}
	c := &Cluster{options: o, closing: make(chan struct{}), nodes: map[string]*node.Node{}}
	c.close = sync.OnceValue(c.tearDown)
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a lab: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		c.check, c.build, c.settle, c.lay, c.startServers, c.install, c.startNodes,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what this machine cannot do before minutes are spent on building it.
func (c *Cluster) check(context.Context) error {
	if c.options.Runtime == Containerd {
		return Probe().Err()
	}
	return nil
}

func (c *Cluster) build(ctx context.Context) (err error) {
	if err := c.options.Tools.Lab(ctx, c.options.binaries()...); err != nil {
		return err
	}
	if c.options.Command == "" {
		c.options.Command, err = c.options.Tools.LabCommand(ctx)
	}
	return err
}

// settle clears dead labs away and makes this one's folder.
func (c *Cluster) settle(context.Context) error {
	// A dead lab that cannot be cleared away is no reason not to start another.
	if swept, err := labdir.Sweep(); err != nil || swept > 0 {
		c.options.step("cleared away %d dead labs (%v)", swept, err)
	}
	var err error
	if c.dir, err = labdir.Create(c.options.Dir); err != nil {
		return err
	}
	if c.options.LogDir == "" {
		c.options.LogDir = filepath.Join(c.dir.Path(), "logs")
	}
	c.janitor, err = c.dir.Hire(c.options.Command, "janitor")
	return err
}

// lay makes what the nodes will stand on.
func (c *Cluster) lay(ctx context.Context) error {
	if c.options.Runtime == Layout {
		c.ground = layoutGround{c}
		return nil
	}
	g, err := newMachineGround(ctx, c)
	if err != nil {
		return err
	}
	c.ground = g
	return nil
}

// startServers starts control plane and registry, at once.
func (c *Cluster) startServers(ctx context.Context) error {
	var wg sync.WaitGroup
	var planeErr, regErr error
	wg.Go(func() { c.plane, planeErr = controlplane.Start(ctx, c.planeOptions()) })
	wg.Go(func() { c.reg, regErr = registry.Start(ctx, c.registryOptions()) })
	wg.Wait()
	if err := errors.Join(planeErr, regErr); err != nil {
		return err
	}
	var err error
	c.client, err = kubernetes.NewForConfig(c.plane.Admin())
	return err
}

func (c *Cluster) planeOptions() controlplane.Options {
	o := controlplane.Options{
		Dir: filepath.Join(c.dir.Path(), "controlplane"), LogDir: c.options.LogDir, Binary: c.options.Tools.Path,
		ControllerManager: c.options.ControllerManager, Scheduler: c.options.Scheduler,
		APIServerArgs: c.options.APIServerArgs, Out: c.options.Out,
	}
	if m, ok := c.ground.(*machineGround); ok {
		o.Address, o.ServiceCIDR = m.network.APIServer(), m.network.Services()
	}
	return o
}

func (c *Cluster) registryOptions() registry.Options {
	o := registry.Options{
		Dir: filepath.Join(c.dir.Path(), "registry"), Log: filepath.Join(c.options.LogDir, "registry.log"),
		Binary: c.options.Tools.Path("registry"),
	}
	if m, ok := c.ground.(*machineGround); ok {
		o.Address = m.network.Registry()
	}
	return o
}

// install puts into the cluster what nodes and tests expect there.
func (c *Cluster) install(ctx context.Context) error {
	if c.options.CRDs != "" {
		if err := c.plane.InstallCRDs(ctx, c.options.CRDs); err != nil {
			return err
		}
	}
	if m, ok := c.ground.(*machineGround); ok {
		return m.preparePause(ctx)
	}
	return nil
}

// startNodes starts the first nodes, all at once.
func (c *Cluster) startNodes(ctx context.Context) error {
	begin := time.Now()
	var wg sync.WaitGroup
	errs := make([]error, c.options.Nodes)
	for i := range errs {
		wg.Go(func() { _, errs[i] = c.AddNode(ctx, c.options.nodeSpec(i+1)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if n := len(errs); n > 0 {
		c.options.step("%d nodes are Ready after %.1fs", n, time.Since(begin).Seconds())
	}
	return nil
}

// AddNode adds a node and returns it when it is Ready. Without a name it gets the next one of the series, with the site
// whose turn it is.
func (c *Cluster) AddNode(ctx context.Context, s node.Spec) (*node.Node, error) {
	s, err := c.claim(s)
	if err != nil {
		return nil, err
	}
	defer c.adding.Done()
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	n, err := c.newNode(ctx, s)
	if err != nil {
		c.strike(s.Name)
		return nil, fmt.Errorf("adding node %s: %w", s.Name, err)
	}
	c.enlist(n)
	if err := n.Start(ctx); err != nil {
		c.strike(s.Name)
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// whileOpen returns a context that ends when Close begins, too.
func (c *Cluster) whileOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-c.closing:
			cancel(errClosed)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// errClosed says that the lab is closed.
var errClosed = errors.New("the lab is closed")

// claim gives s its name and counts it, as a call of AddNode too.
func (c *Cluster) claim(s node.Spec) (node.Spec, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return s, fmt.Errorf("adding a node: %w", errClosed)
	}
	c.counter++
	if next := c.options.nodeSpec(c.counter); s.Name == "" {
		s.Name, s.Site = next.Name, cmp.Or(s.Site, next.Site)
	}
	if _, ok := c.nodes[s.Name]; ok {
		return s, fmt.Errorf("adding node %s: there is one of that name", s.Name)
	}
	c.nodes[s.Name] = nil
	c.adding.Add(1)
	return s, nil
}

func (c *Cluster) newNode(ctx context.Context, s node.Spec) (*node.Node, error) {
	dir, logDir := filepath.Join(c.dir.Path(), "nodes", s.Name), filepath.Join(c.options.LogDir, s.Name)
	kubeconfig := filepath.Join(dir, kubeconfigName)
	if err := c.plane.WriteKubeconfig(kubeconfig, s.User(), node.Group); err != nil {
		return nil, err
	}
	host, err := c.ground.host(ctx, s, dir, logDir)
	if err != nil {
		return nil, err
	}
	return node.New(s, node.Config{Dir: dir, LogDir: logDir, Kubeconfig: kubeconfig, Host: host}), nil
}

// enlist adds n to the nodes, which Close will close.
func (c *Cluster) enlist(n *node.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[n.Name()] = n
}

// strike gives a name free again.
func (c *Cluster) strike(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, name)
}

// layoutGround lets nodes stand on nothing.
type layoutGround struct{ c *Cluster }

func (g layoutGround) host(_ context.Context, s node.Spec, _, _ string) (node.Host, error) {
	return node.NewLayout(s, g.c.client, g.c.options.ControllerManager == nil), nil
}

func (g layoutGround) close() error { return nil }

// Run runs a program beside the control plane, on no node: its name, command line and what its environment has besides
// [process.CleanEnv]. It ends with the lab.
func (c *Cluster) Run(name string, argv []string, env ...string) (*process.Process, error) {
	p, err := process.Start(process.Host{}, process.Command{
		Name: name, Argv: argv, Env: append(process.CleanEnv(), env...), Dir: c.dir.Path(),
		Log: filepath.Join(c.options.LogDir, name+".log"),
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, errClosed), p.Kill())
	}
	c.servers = append(c.servers, p)
	return p, nil
}

// Client returns a client that may do everything.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// ControlPlane returns the control plane.
func (c *Cluster) ControlPlane() *controlplane.ControlPlane { return c.plane }

// Registry returns the registry.
func (c *Cluster) Registry() *registry.Registry { return c.reg }

// Tools returns what builds the lab's and the product's binaries.
func (c *Cluster) Tools() *toolchain.Toolchain { return c.options.Tools }

// Runtime returns what the nodes run on.
func (c *Cluster) Runtime() Runtime { return c.options.Runtime }

// Dir returns the lab's folder.
func (c *Cluster) Dir() string { return c.dir.Path() }

// LogDir returns the folder of the logs: one file per server, one folder per node.
func (c *Cluster) LogDir() string { return c.options.LogDir }

// Push pushes an image or index past the registry's door, as "app:v1" or "team/app:v1".
func (c *Cluster) Push(ctx context.Context, reference string, object testimage.Object) (testimage.Pushed, error) {
	return testimage.Push(ctx, c.reg, reference, object)
}
