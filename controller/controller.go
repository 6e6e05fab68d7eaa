package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/client/clientset/versioned/scheme"
	"edgecache.dev/api/client/informers/externalversions"
	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/caches"
	"edgecache.dev/controller/contents"
	"edgecache.dev/controller/credentials"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/keyloop"
	"edgecache.dev/controller/limits"
	"edgecache.dev/controller/metrics"
	"edgecache.dev/controller/nodes"
	"edgecache.dev/controller/resolution"
	"edgecache.dev/controller/rollout"
	"edgecache.dev/controller/sandbox"
	"edgecache.dev/controller/sites"
	"edgecache.dev/internal/seal"
)

const (
	// cacheWorkers are few: a cache's status is summed up in memory.
	cacheWorkers = 2
	// gatherLeast is how long node events are gathered before statuses are summed up;
	// gatherPerNode makes it longer for large fleets, whose summing up takes longer.
	gatherLeast   = 500 * time.Millisecond
	gatherPerNode = 200 * time.Microsecond
	// gatherLookUps is how long the outcomes of look-ups are gathered.
	gatherLookUps = 200 * time.Millisecond
	// sweepEvery is how often contents that nothing names are looked for.
	sweepEvery = 10 * time.Minute
)

// Options of a controller. The clients and the resolver are required.
type Options struct {
	Kube     kubernetes.Interface
	Edge     versioned.Interface
	Resolver resolution.Resolver
	// Prober checks what is not Off for precheck; default one that goes by manifests.
	Prober resolution.Prober
	// NodeWorkers is how many nodes' specs are written at a time; default 16.
	NodeWorkers int
	// LookUpWorkers is how many images are looked up at a time; default 8.
	LookUpWorkers int
	// RelabelGrace is how long images stay on a node whose labels no longer match; 0 is
	// no time.
	RelabelGrace time.Duration
	// SandboxImage has nodes keep the image that their runtime makes pod sandboxes of.
	SandboxImage bool
	// Limits on what ImageCaches may ask for; default none.
	Limits limits.Limits
	// Metrics to count in; default ones that nobody sees.
	Metrics *metrics.Metrics
}

// Controller is the assembled controller. It is run once.
type Controller struct {
	options Options
	kube    informers.SharedInformerFactory
	leases  informers.SharedInformerFactory
	edge    externalversions.SharedInformerFactory // of user-facing kinds
	system  externalversions.SharedInformerFactory // of NodeImageCaches

	events   record.EventBroadcaster
	recorder record.EventRecorder
	view     *fleet.View
	clock    *fleet.LeaseClock
	reaches  *fleet.Reaches
	table    *resolution.Table
	sites    *sites.Sites
	gates    *rollout.Gates
	vault    *credentials.Vault
	accounts *limits.Accounts
	guard    *credentials.Guard
	contents *contents.Keeper
	sandbox  *sandbox.Reconciler // nil where sandbox images are not looked after

	noting    sync.Mutex // held while sites take in a node
	primed    atomic.Bool
	heard     []cache.InformerSynced // handlers that took in what was there at the start
	prime     []func() error
	caches    *keyloop.Loop[cache.ObjectName]
	nodes     *keyloop.Loop[string]
	looks     *keyloop.Loop[resolution.Key]
	reads     *keyloop.Loop[cache.ObjectName] // of Secrets
	sandboxes *keyloop.Loop[struct{}]         // of sandbox images: all at once
}

// New assembles a controller.
func New(options Options) (*Controller, error) {
	if options.NodeWorkers <= 0 {
		options.NodeWorkers = 16
	}
	if options.LookUpWorkers <= 0 {
		options.LookUpWorkers = 8
	}
	if options.Metrics == nil {
		options.Metrics = metrics.New()
	}
	if options.Prober == nil {
		options.Prober = resolution.ManifestProber{Resolver: options.Resolver}
	}
	events := record.NewBroadcaster()
	c := &Controller{
		options: options,
		events:  events, recorder: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "edgecache-controller"}),
		kube: informers.NewSharedInformerFactoryWithOptions(options.Kube, 0, informers.WithTransform(slim)),
		leases: informers.NewSharedInformerFactoryWithOptions(options.Kube, 0,
			informers.WithNamespace(v1alpha1.SystemNamespace), informers.WithTransform(slim)),
		edge: externalversions.NewSharedInformerFactoryWithOptions(options.Edge, 0, externalversions.WithTransform(slim)),
		system: externalversions.NewSharedInformerFactoryWithOptions(options.Edge, 0,
			externalversions.WithNamespace(v1alpha1.SystemNamespace), externalversions.WithTransform(slim)),
		view:    fleet.NewView(options.Limits),
		clock:   fleet.NewLeaseClock(),
		reaches: fleet.NewReaches(),
		table:   resolution.NewTable(),
		sites:   sites.New(),
	}
	c.assemble()
	return c, c.listen()
}

func (c *Controller) assemble() {
	edge := c.edge.Edgecache().V1alpha1()
	objects := c.system.Edgecache().V1alpha1().NodeImageCaches()
	c.gates = &rollout.Gates{View: c.view}
	c.vault = credentials.NewVault()
	c.guard = &credentials.Guard{Client: c.options.Kube, Changed: c.touchAll}
	c.contents = &contents.Keeper{
		Lister: edge.ImageContents().Lister(), Client: c.options.Edge.EdgecacheV1alpha1().ImageContents(), Clock: clock.RealClock{},
	}
	c.accounts = limits.NewAccounts(c.options.Limits, c.contents.MaxSize)
	node := &nodes.Reconciler{
		Nodes:   c.kube.Core().V1().Nodes().Lister(),
		Objects: objects.Lister().NodeImageCaches(v1alpha1.SystemNamespace),
		Client:  c.options.Edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace),
		Update:  updater(c.options.Edge.EdgecacheV1alpha1().RESTClient()),
		View:    c.view, Sandbox: c.sandboxWish, Leases: c.clock, Targets: c.table, Sites: c.sites, Sizes: c.contents, Clock: clock.RealClock{},
		Gates:       gates{c.gates, c.accounts},
		Credentials: c.vault, Seal: sealed, MaySeal: c.guard.Holds, Grace: c.options.RelabelGrace, Wrote: c.options.Metrics.WroteNode,
	}
	c.nodes = keyloop.New("nodes", func(ctx context.Context, name string) (time.Duration, error) {
		c.noteReach(name)
		return node.Sync(ctx, name)
	})
	looker := &resolution.Looker{
		Table: c.table, Resolver: c.options.Resolver, Prober: c.options.Prober, Contents: c.contents, Secrets: witness{secrets{c.options.Kube}, c.saw}, Clock: clock.RealClock{},
		Changed: c.lookedUp,
		Counted: c.options.Metrics.LookedUp,
	}
	c.looks = keyloop.New("lookups", looker.Sync)
	reader := &credentials.Reader{Vault: c.vault, Secrets: secrets{c.options.Kube}, Changed: func(o wish.Owner) { c.caches.Add(keyOf(o)) }}
	c.reads = keyloop.New("secrets", reader.Sync)
	each := &caches.Reconciler{
		Caches: edge.ImageCaches().Lister(), Nodes: node.Nodes, Objects: node.Objects,
		ObjectIndex: objects.Informer().GetIndexer(), Client: c.options.Edge.EdgecacheV1alpha1(),
		View: c.view, Leases: c.clock, Table: c.table, Sites: c.sites, Gates: c.gates, Vault: c.vault, Accounts: c.accounts, Clock: clock.RealClock{},
		Again:      func(o wish.Owner) { c.caches.Add(keyOf(o)) },
		ReadSecret: c.reads.Add, MaySeal: c.guard.Holds, LookUp: c.looks.Add, Touch: c.nodes.Add, Metrics: c.options.Metrics, Events: c.recorder,
	}
	c.caches = keyloop.New("caches", each.Sync)
	c.prime = append(c.prime, each.Prime)
	c.assembleSandbox(node.Objects)
}

// assembleSandbox puts together what looks after sandbox images. It is primed last: what
// ImageCaches know of an image counts.
func (c *Controller) assembleSandbox(objects listers.NodeImageCacheNamespaceLister) {
	if !c.options.SandboxImage {
		c.sandboxes = keyloop.New("sandboxes", func(context.Context, struct{}) (time.Duration, error) { return 0, nil })
		return
	}
	c.sandbox = sandbox.New(objects, c.table, c.looks.Add, c.nodes.Add)
	c.sandboxes = keyloop.New("sandboxes", c.sandbox.Sync)
	c.prime = append(c.prime, c.sandbox.Prime)
}

// sandboxWish gives the wish of a node for its sandbox image, nil when there is none.
func (c *Controller) sandboxWish(object *v1alpha1.NodeImageCache) *wish.Cache {
	if c.sandbox == nil {
		return nil
	}
	return c.sandbox.For(object)
}

// Run works until the context ends and the keys being worked on are done.
func (c *Controller) Run(ctx context.Context) error {
	factories := []interface {
		StartWithContext(context.Context)
		Shutdown()
	}{c.kube, c.leases, c.edge, c.system}
	for _, f := range factories {
		f.StartWithContext(ctx)
		defer f.Shutdown()
	}
	c.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.options.Kube.CoreV1().Events("")})
	defer c.events.Shutdown()
	klog.FromContext(ctx).Info("Waiting for informers")
	if !cache.WaitForNamedCacheSyncWithContext(ctx, c.heard...) {
		return errors.New("informers did not sync before the end")
	}
	for _, prime := range c.prime {
		if err := prime(); err != nil {
			return err
		}
	}
	c.sites.Settle()
	c.primed.Store(true)
	klog.FromContext(ctx).Info("Controller is working")
	var wg sync.WaitGroup
	wg.Go(func() { c.caches.Run(ctx, cacheWorkers) })
	wg.Go(func() { c.nodes.Run(ctx, c.options.NodeWorkers) })
	wg.Go(func() { c.looks.Run(ctx, c.options.LookUpWorkers) })
	wg.Go(func() { c.reads.Run(ctx, 1) })
	wg.Go(func() { c.sandboxes.Run(ctx, 1) })
	wg.Go(func() { c.guard.Run(ctx) })
	wg.Go(func() { c.sweep(ctx) })
	wg.Wait()
	return nil
}

// Ready says why the controller does not work yet, nil when it does.
func (c *Controller) Ready() error {
	if !c.primed.Load() {
		return errors.New("waiting for the API server to list what is there")
	}
	return nil
}

// sweep looks for contents that nothing names, from time to time.
func (c *Controller) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := c.contents.Sweep(ctx, c.namedContents()); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Sweeping image contents")
		}
	}
}

// namedContents gives the names of the contents that a reference stands for, or that a
// node is known to hold or to be asked to hold, dark nodes included.
func (c *Controller) namedContents() map[string]bool {
	named := map[string]bool{}
	for _, d := range c.table.Targets() {
		if d != "" {
			named[v1alpha1.ContentName(d)] = true
		}
	}
	objects, _ := c.system.Edgecache().V1alpha1().NodeImageCaches().Lister().List(labels.Everything())
	for _, o := range objects {
		for i := range o.Spec.Images {
			named[v1alpha1.ContentName(digest.Digest(o.Spec.Images[i].Digest))] = true
		}
		for i := range o.Status.Images {
			named[v1alpha1.ContentName(digest.Digest(o.Status.Images[i].Digest))] = true
			named[v1alpha1.ContentName(digest.Digest(o.Status.Images[i].Current))] = true
		}
	}
	return named
}

// gates are all that hold a node back from a digest.
type gates struct {
	rollout  *rollout.Gates
	accounts *limits.Accounts
}

// Holds says whether an owner does not yet let a node of a site in to a digest.
func (g gates) Holds(owner wish.Owner, node, site string, ref imageref.Reference, target digest.Digest) bool {
	return !g.accounts.Covers(owner, target) || g.rollout.Holds(owner, node, site, ref, target)
}

// metadataOnly asks for no more of an answer than its metadata.
const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// updater writes NodeImageCaches and has the API server spare itself and us the echo of what
// was written: the informer brings it anyway.
func updater(client rest.Interface) func(context.Context, *v1alpha1.NodeImageCache) error {
	return func(ctx context.Context, object *v1alpha1.NodeImageCache) error {
		err := client.Put().Namespace(object.Namespace).Resource("nodeimagecaches").Name(object.Name).
			SetHeader("Accept", metadataOnly).Body(object).Do(ctx).Error()
		if err != nil {
			return fmt.Errorf("updating NodeImageCache %s: %w", object.Name, err)
		}
		return nil
	}
}

// witness tells what it read, so that nodes get a Secret as a look-up has just used it.
type witness struct {
	secrets
	saw func(cache.ObjectName, *corev1.Secret)
}

// Secret reads one Secret.
func (w witness) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	s, err := w.secrets.Secret(ctx, namespace, name)
	if err == nil {
		w.saw(cache.ObjectName{Namespace: namespace, Name: name}, s)
	}
	return s, err
}

func (c *Controller) saw(name cache.ObjectName, s *corev1.Secret) {
	for _, owner := range c.vault.Put(name, s) {
		c.caches.Add(keyOf(owner))
	}
}

// sealed seals a pull credential for one node.
func sealed(recipient, match, nodeUID string, auth authn.AuthConfig) ([]byte, error) {
	return seal.Seal(recipient, seal.Payload{Match: match, NodeUID: nodeUID, Auth: seal.Auth{
		Username: auth.Username, Password: auth.Password, Auth: auth.Auth, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}})
}

// secrets reads pull secrets one by one: the controller may get, not list them.
type secrets struct{ client kubernetes.Interface }

// Secret reads one Secret.
func (s secrets) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	secret, err := s.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("getting secret %s/%s: %w", namespace, name, err)
	}
	return secret, nil
}
