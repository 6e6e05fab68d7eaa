package edgeagent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
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
