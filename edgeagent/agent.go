package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/offlinestart"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/reserve"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/pause"
)

// Memory is what the agent needs of the store.
type Memory interface {
	Desired() (store.Desired, bool, error)
	Ledger() (map[string]store.Entry, error)
	// Boot is the node's boot that was stored last.
	Boot() (string, error)
	// Write stores what changed, or says why it cannot.
	Write(store.Change) error
	// Mend says why nothing can be stored, nil when it can, and once that all is to be
	// stored anew.
	Mend() (reopened bool, err error)
}

// Reporter takes the newest status of the object with a UID.
type Reporter interface {
	Offer(uid types.UID, status *v1alpha1.NodeImageCacheStatus)
}

// Keyring opens sealed credentials for those who pull; the agent tells it which there are.
type Keyring interface {
	// Key is what credentials are sealed to.
	Key() v1alpha1.NodeKey
	// Hear takes in the wish and gives the images that have other credentials than before.
	Hear(d store.Desired) (changed []string)
	// Trouble names credentials that could not be opened, nil when none was.
	Trouble() error
}

// Resolver says what a tag stands for in its registry.
type Resolver interface {
	Digest(ctx context.Context, name imageref.Reference) (digest.Digest, error)
}

// Prober says whether a registry serves an image just now.
type Prober interface {
	Serves(ctx context.Context, name imageref.Reference, d digest.Digest) error
}

// Options of an agent. Zero values give the defaults.
type Options struct {
	// Workers is how many images are brought in at a time; default 2.
	Workers int
	// Poll is how often the runtime is looked at without a hint that something changed;
	// default 5 minutes, 30 seconds where the runtime gives no hints.
	Poll time.Duration
	// Version of the agent, for the status.
	Version string
	// Built is when this release was built, zero when that is not known: a clock that is
	// before it is wrong.
	Built time.Time
	// BootID of the node, for the status.
	BootID string
	// Disk gives the file system that a path is on; nil reports none, and lets pulls fill it.
	// It may be called by several goroutines at once.
	Disk func(path string) (*v1alpha1.DiskStatus, error)
	// Prober is asked before a cached image is given up for one that is to come; nil where
	// nobody can be, and no wished image is given up.
	Prober Prober
	// Reserve of that file system stays free when images come in; default none.
	Reserve reserve.Reserve
	// Keyring opens the credentials that the wish has; nil where nobody does.
	Keyring Keyring
	// Resolver is asked for tags that are this node's to resolve; nil where nobody can be,
	// which fails such images.
	Resolver Resolver
	// Rest is called when nothing is under way any more, for what is better done then than
	// at once; nil does nothing.
	Rest func()
	// Intact knows what a power cut damaged; nil where nobody looks.
	Intact Intact
	// Kubelet gives what the kubelet is configured with; nil where none starts containers.
	Kubelet func() offlinestart.Kubelet
	// Links says which registries are down; nil where nobody knows.
	Links Links
	// Windows say when images may be pulled; nil is always.
	Windows Windows
	// LinkSettings are those in use that not every driver can honour.
	LinkSettings report.LinkSettings
}

const (
	defaultWorkers = 2
	pollWithHints  = 5 * time.Minute
	pollBlind      = 30 * time.Second
	// runtimeRetry is how soon a runtime that did not answer is asked again.
	runtimeRetry = 5 * time.Second
	// callTimeout bounds one short call to the runtime.
	callTimeout = time.Minute
	// progressEvery is how often progress is looked at while images come in.
	progressEvery = 5 * time.Second
)

// Agent holds the images of one node to the wish.
type Agent struct {
	memory   Memory
	driver   runtime.Driver
	reporter Reporter
	options  Options

	mail    chan struct{} // something arrived in inbox
	inboxMu sync.Mutex
	inbox   inbox // guarded by inboxMu

	view  atomic.Pointer[view] // how things stand, for Status
	pulse pulse
	began time.Time

	// The rest is owned by the goroutine in Run.
	info      runtime.Info
	object    *v1alpha1.NodeImageCache // as heard last, nil when there is none
	desired   store.Desired
	seen      seen
	ledger    map[string]store.Entry
	inventory runtime.Inventory
	steps     plan.Steps
	attempts  map[string]*attempt
	inquiries map[string]*inquiry
	hinted    bool // the runtime tells of changes
	trouble   trouble
	gate      gate
	owes      debts
	counters  counters
	card      *rate.Limiter // what the disk is to bear
	resting   bool
	removing  string // names that were said to be removed last
	last      []metav1.Condition
	risk      *metav1.Condition // OfflineStartAtRisk, as of the last look
	input     plan.Input        // of steps
	space     space
	wg        sync.WaitGroup
}

// seen is the wish with which inventory and steps were worked out. It lags behind desired
// while the runtime does not answer, and only what was seen is reported as observed: the
// controller takes it for carried out.
type seen struct {
	uid        string
	generation int64
}

// inbox is what other goroutines tell the agent.
type inbox struct {
	object *v1alpha1.NodeImageCache
	heard  bool // object was heard, nil included
	ended  []string
	told   []string // names whose inquiry ended
	pleas  []*plea  // attempts that ask for room
	notes  []store.Record
	look   bool // the runtime changed

	trouble *error // with the source of the wish, nil where nothing was told
}

// New makes an agent. What it remembers is read when it is run.
func New(memory Memory, driver runtime.Driver, reporter Reporter, options Options) *Agent {
	if options.Workers <= 0 {
		options.Workers = defaultWorkers
	}
	return &Agent{
		memory: memory, driver: driver, reporter: reporter, options: options,
		began: time.Now(), counters: counters{attempts: map[string]int64{}}, gate: newGate(),
		mail: make(chan struct{}, 1), attempts: map[string]*attempt{}, inquiries: map[string]*inquiry{}, owes: debts{names: map[string]bool{}},
		card: rate.NewLimiter(rate.Every(writeEvery), writeBurst),
	}
}

// Hear takes in how the node's object stands; nil when there is none. It does not block.
func (a *Agent) Hear(object *v1alpha1.NodeImageCache) {
	a.tell(func(in *inbox) { in.object, in.heard = object, true })
}

// Look asks the agent to look at the runtime again.
func (a *Agent) Look() { a.tell(func(in *inbox) { in.look = true }) }

func (a *Agent) tell(put func(*inbox)) {
	a.inboxMu.Lock()
	put(&a.inbox)
	a.inboxMu.Unlock()
	select {
	case a.mail <- struct{}{}:
	default:
	}
}

func (a *Agent) collect() inbox {
	a.inboxMu.Lock()
	defer a.inboxMu.Unlock()
	in := a.inbox
	a.inbox = inbox{}
	return in
}

// Run works until the context ends and then waits for attempts to let go. Partial
// downloads stay. It returns an error only if what is remembered cannot be read.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.recall(); err != nil {
		return err
	}
	defer a.payLast()
	defer a.wg.Wait()
	a.noteBoot()
	hints := a.driver.Changes(ctx)
	a.hinted = hints != nil
	next := due{look: time.Now()}
	for {
		progress := a.progressTimer()
		select {
		case <-ctx.Done():
			return nil
		case <-a.mail:
			if look := a.take(ctx, a.collect()); look || next.ask.IsZero() {
				next = a.pass(ctx)
			} else {
				next.ask = a.ask(ctx)
			}
		case <-hints:
			next = a.pass(ctx)
		case <-pause.At(next.look):
			next = a.pass(ctx)
		case <-pause.At(next.ask):
			next.ask = a.ask(ctx)
		case <-progress:
			a.report()
		}
	}
}

// due is when the runtime is to be looked at, and when registries are to be asked without
// that: not at all, zero, while it does not answer, for what was asked last is old then.
type due struct{ look, ask time.Time }

// recall reads the store.
func (a *Agent) recall() error {
	desired, _, err := a.memory.Desired()
	if err != nil {
		return fmt.Errorf("recalling the wish: %w", err)
	}
	ledger, err := a.memory.Ledger()
	if err != nil {
		return fmt.Errorf("recalling the ledger: %w", err)
	}
	a.desired, a.ledger = desired, ledger
	a.hearCredentials()
	for name, e := range ledger {
		if e.Failure != nil {
			a.attempts[name] = &attempt{failures: e.Failure.Attempts, digest: e.Failure.Digest}
		}
	}
	a.publishRemembered()
	return nil
}

func (a *Agent) progressTimer() <-chan time.Time {
	if a.running() == 0 {
		return nil
	}
	return time.After(progressEvery)
}

// take acts on what other goroutines told. It says whether the runtime is to be looked at:
// not for a question that told nothing new, of which there may be hundreds an hour.
func (a *Agent) take(ctx context.Context, in inbox) (look bool) {
	defer a.pulse.turn()()
	for _, name := range in.ended {
		a.settle(ctx, name)
	}
	a.space.pleas = append(a.space.pleas, in.pleas...)
	look = in.look || in.heard || len(in.ended) > 0 || len(in.pleas) > 0
	for _, r := range in.notes {
		a.note(r)
	}
	if len(in.notes) > 0 {
		a.settleDebts(ctx)
	}
	for _, name := range in.told {
		before := a.ledger[name].Resolved
		a.hearRegistry(ctx, name)
		look = look || a.ledger[name].Resolved != before
	}
	if in.trouble != nil {
		a.trouble.note(ctx, withSource, *in.trouble, "The wish is not read as it stands, what was read before counts")
	}
	if !in.heard {
		return look
	}
	a.object = in.object
	a.desired = plan.Hear(a.desired, in.object)
	a.owes.desired = true
	a.settleDebts(ctx)
	a.hearCredentials()
	return look
}

// ask asks registries only, as of the last look, and says when there is more to ask.
func (a *Agent) ask(ctx context.Context) time.Time {
	defer a.pulse.turn()()
	a.noteCredentials(ctx)
	more := a.inquire(ctx)
	a.report()
	return more
}

// pass brings runtime and wish together once and says when there is more to do.
func (a *Agent) pass(ctx context.Context) due {
	defer a.pulse.turn()()
	a.counters.passes++
	a.settleDebts(ctx)
	a.noteCredentials(ctx)
	for range 5 { // removals change what there is to plan for; more often is a runtime that does not obey
		if err := a.look(ctx); err != nil {
			a.trouble.note(ctx, withRuntime, err, "Container runtime not answering, trying again")
			a.report()
			return due{look: time.Now().Add(runtimeRetry)}
		}
		a.trouble.note(ctx, withRuntime, nil, "")
		if !a.tidy(ctx) && !a.relieve(ctx) && !a.makeRoom(ctx) {
			break
		}
	}
	a.answerPleas(ctx)
	next := due{look: a.bring(ctx), ask: a.inquire(ctx)}
	a.await()
	a.report()
	a.rest()
	return next
}

// look reads the runtime and works out the next steps.
func (a *Agent) look(ctx context.Context) error {
	running := a.runningNames()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	back := sync.OnceFunc(a.pulse.away())
	defer back()
	info, err := a.driver.Info(call)
	if err != nil {
		return fmt.Errorf("asking the container runtime who it is: %w", err)
	}
	inventory, err := a.driver.Inventory(call)
	if err != nil {
		return fmt.Errorf("listing images: %w", err)
	}
	inventory = a.spared(inventory)
	inUse, err := a.driver.InUse(call)
	back()
	a.trouble.note(ctx, withUse, err, "Images in use not known, removing none")
	info.SandboxImage = a.sandboxImage(info)
	a.rememberSandbox(info)
	a.info, a.inventory = info, inventory
	a.measure(ctx, inUse)
	a.input = plan.Input{
		Desired: a.desired, Ledger: a.ledger, Inventory: inventory, InUse: inUse, UseUnknown: err != nil, Running: running,
		Names: info.Can(runtime.CanNameByDigest), Pins: info.Can(runtime.CanPin), Untags: info.Can(runtime.CanUntag),
		Sandbox: info.SandboxImage,
	}
	a.steps = plan.Next(a.input)
	a.risk = a.assess()
	a.seen = seen{uid: a.desired.UID, generation: a.desired.Generation}
	a.remember(ctx, append(a.lost(), a.witness()...), a.steps.Drop)
	return nil
}

// sandboxImage gives the sandbox image of a runtime: what it tells, else what is remembered
// of it, else, where the store was lost, what an earlier process reported. That a runtime
// without pods does not tell is no news.
func (a *Agent) sandboxImage(now runtime.Info) imageref.Reference {
	known := []store.Sandbox{{Runtime: now.Name, Image: now.SandboxImage.String()}}
	if a.desired.Sandbox != nil {
		known = append(known, *a.desired.Sandbox)
	}
	if a.object != nil {
		said := a.object.Status.Runtime
		known = append(known, store.Sandbox{Runtime: said.Name, Image: said.SandboxImage})
	}
	for _, k := range known {
		if image, err := imageref.Parse(k.Image); err == nil && k.Runtime == now.Name {
			return image
		}
	}
	return imageref.Reference{}
}

// rememberSandbox has a sandbox image stored with the wish, by the next write.
func (a *Agent) rememberSandbox(info runtime.Info) {
	now := store.Sandbox{Runtime: info.Name, Image: info.SandboxImage.String()}
	if info.SandboxImage.IsZero() || a.desired.Sandbox != nil && *a.desired.Sandbox == now {
		return
	}
	a.desired.Sandbox, a.owes.desired = &now, true
}

// tidy carries out removals, releases and pins. It says whether there is something new to
// see.
func (a *Agent) tidy(ctx context.Context) bool {
	names := slices.Concat(a.steps.Superseded, a.steps.Halves)
	for _, r := range a.steps.Removals {
		names = append(names, r.Names...)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer a.pulse.away()()
	var err error
	if len(a.steps.Release) > 0 {
		err = a.driver.Release(call, a.steps.Release...)
	}
	if len(a.steps.Pin) > 0 {
		klog.FromContext(ctx).Info("Pinning the sandbox image", "names", a.steps.Pin)
		err = errors.Join(err, a.driver.Pin(call, a.steps.Pin...))
	}
	if len(names) > 0 {
		if now := fmt.Sprint(names); now != a.removing { // what cannot be removed is tried again for ever
			a.removing = now
			klog.FromContext(ctx).Info("Removing images", "names", names)
		}
		err = errors.Join(err, a.driver.Remove(call, names...))
	}
	a.trouble.note(ctx, withTidying, err, "Images not removed, let go or pinned, trying again")
	return len(names) > 0 && err == nil
}

// report offers the status as it is now.
func (a *Agent) report() {
	defer a.pulse.turn()()
	if a.desired.UID == "" && a.info.Name == "" || a.seen.uid != a.desired.UID {
		a.reportUnseen()
		return
	}
	status := report.Build(report.State{
		Generation:  a.seen.generation,
		WishUnknown: !a.desired.Known,
		Steps:       a.steps,
		Ledger:      maps.Clone(a.ledger),
		Inventory:  a.inventory,
		Work:       a.work(),
		Unanswered: a.unanswered(),
		Node:       a.node(),
		Trouble:    a.trouble.String(), OfflineStart: a.risk,
		Held: a.held(),
		Link: a.options.LinkSettings,
	}, a.last)
	a.last = status.Conditions
	if a.desired.UID != "" { // else there is nobody to report to yet
		a.reporter.Offer(types.UID(a.desired.UID), &status)
	}
	a.publish(local.FromRuntime, &status)
}

// reportUnseen tells what keeps the agent from looking at the runtime at all. What the
// object said of the images before, by an earlier process, stands until then: a node that
// comes up before its runtime has not lost anything.
func (a *Agent) reportUnseen() {
	a.publishRemembered()
	if a.object == nil || string(a.object.UID) != a.desired.UID {
		return
	}
	status := report.Unseen(a.object.Status, a.key(), a.trouble.String())
	a.last = status.Conditions
	a.reporter.Offer(a.object.UID, &status)
}

func (a *Agent) node() report.Node {
	n := report.Node{Runtime: a.info, BootID: a.options.BootID, AgentVersion: a.options.Version, Key: a.key()}
	if disk, err := a.diskOf(a.info.Root); err == nil {
		n.Disk = disk
	}
	if a.options.Links != nil {
		n.Registries = a.options.Links.Registries()
	}
	return n
}
