package report

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/pause"
)

const (
	// settle is how long a change waits for others that come with it. It is jittered,
	// so that nodes that change together do not write together.
	settle = time.Second
	// gather is how long images that are further wait for others, jittered as well.
	gather = 15 * time.Second
	// gatherAnswers is the same for what registries say of tags: an agent may ask for a
	// thousand.
	gatherAnswers = 3 * time.Second
	// firstGap is the time between the first two writes of how far images are. It grows
	// fourfold up to lastGap until all images are there or have failed.
	firstGap = time.Minute
	lastGap  = 15 * time.Minute
	// firstRetry and lastRetry bound the backoff while the API server does not answer.
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute
	// echoWait is how long the API server may go on showing an older status than the one
	// written last, before somebody else must have put it there.
	echoWait = time.Minute
	// correctEvery bounds how often such a status is put right.
	correctEvery = 10 * time.Minute
)

// Writer writes the status of the object with a UID.
type Writer interface {
	WriteStatus(ctx context.Context, uid types.UID, status *v1alpha1.NodeImageCacheStatus) error
}

// Reporter writes statuses: the newest one, when it says something new.
type Reporter struct {
	writer Writer
	wake   chan struct{}

	mu      sync.Mutex               // guards what follows
	next    *offer                   // nil until one is offered
	heard   *v1alpha1.NodeImageCache // the object as the API server showed it last
	heardAt time.Time
}

type offer struct {
	uid    types.UID
	status *v1alpha1.NodeImageCacheStatus
}

// NewReporter makes a reporter that writes nothing until it is run.
func NewReporter(w Writer) *Reporter {
	return &Reporter{writer: w, wake: make(chan struct{}, 1)}
}

// Offer hands over the newest status of the object with a UID. The reporter keeps it;
// the caller does not change it any more.
func (r *Reporter) Offer(uid types.UID, status *v1alpha1.NodeImageCacheStatus) {
	fit(status)
	r.mu.Lock()
	r.next = &offer{uid: uid, status: status}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Hear takes in how the node's object stands; nil when there is none. A status there that
// is not the one written last is put right: after a restored backup of the API server
// nothing else would.
func (r *Reporter) Hear(object *v1alpha1.NodeImageCache) {
	r.mu.Lock()
	r.heard, r.heardAt = object, time.Now()
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Reporter) newest() *offer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// Run writes what is offered until the context ends.
func (r *Reporter) Run(ctx context.Context) {
	w := written{retry: newBackoff()}
	var due time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			due = r.due(&w, due)
		case <-pause.At(due):
			r.write(ctx, &w)
			due = r.due(&w, time.Time{})
		}
	}
}

// written is what the API server has.
type written struct {
	offer
	at        time.Time // when the write began
	corrected time.Time // when a status of somebody else was replaced last
	retry     wait.Backoff
	wait      time.Duration // before the next try, 0 after a success
	failed    types.UID     // of the object that could not be written
	steps     int           // writes since the node began to work its way through images
}

// count notes a write of a status. A new wish begins anew: somebody waits for how it goes.
func (w *written) count(next *offer) {
	if w.status == nil || w.status.ObservedGeneration != next.status.ObservedGeneration {
		w.steps = 0
	}
	w.steps++
	if !underWay(next.status) {
		w.steps = 0
	}
}

// gap is the least time between the last write and the next of how far images are: a fleet
// that is given ten images writes a few times per node, however long they take.
func (w *written) gap() time.Duration {
	if w.steps == 0 {
		return 0
	}
	return min(firstGap<<(2*min(w.steps-1, 8)), lastGap)
}

// urgency says what the newest offer is worth.
func (w *written) urgency(next *offer) urgency {
	switch {
	case next == nil:
		return none
	case next.uid != w.uid:
		return urgent
	}
	return worth(w.status, next.status)
}

// due says when the newest status is to be written, the zero time for not at all. An
// earlier time that was set before stands: a stream of changes does not put off a write.
func (r *Reporter) due(w *written, set time.Time) time.Time {
	var delay time.Duration
	switch u := w.urgency(r.newest()); {
	case u == none:
		return r.doubt(w)
	case w.wait > 0 && w.failed == r.newest().uid:
		delay = w.wait
	case u == minor:
		delay = max(max(minorEvery, w.gap())-time.Since(w.at), settle)
	case u == step && w.status.ObservedGeneration != r.newest().status.ObservedGeneration:
		delay = wait.Jitter(gather, 0.5)
	case u == step:
		delay = max(w.gap()-time.Since(w.at), wait.Jitter(gather, 0.5))
	case u == answer:
		delay = wait.Jitter(gatherAnswers, 0.5)
	default:
		delay = wait.Jitter(settle, 0.5)
	}
	if due := time.Now().Add(delay); set.IsZero() || due.Before(set) {
		return due
	}
	return set
}

// doubt says when the status that was heard last is to be put right, the zero time if it is
// as written. What was heard before the write began is older. What was heard after it may
// be the echo of an earlier write, and then that of the last one follows.
func (r *Reporter) doubt(w *written) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard == nil || r.heard.UID != w.uid || !r.heardAt.After(w.at) || same(&r.heard.Status, w.status) {
		return time.Time{}
	}
	due := r.heardAt.Add(echoWait)
	if least := w.corrected.Add(correctEvery); due.Before(least) {
		return least
	}
	return due
}

// same compares what every release of the API server keeps of a status: what one may not
// know and drop is no reason to write.
func same(a, b *v1alpha1.NodeImageCacheStatus) bool {
	return a.ObservedGeneration == b.ObservedGeneration && equality.Semantic.DeepEqual(a.Key, b.Key) &&
		slices.EqualFunc(a.Images, b.Images, func(x, y v1alpha1.NodeImageStatus) bool {
			return x.Name == y.Name && x.Digest == y.Digest && x.Phase == y.Phase
		})
}

func (r *Reporter) write(ctx context.Context, w *written) {
	next, began := r.newest(), time.Now()
	if w.urgency(next) == none {
		if due := r.doubt(w); due.IsZero() || began.Before(due) {
			return
		}
		klog.FromContext(ctx).Info("The status was changed by somebody else, writing it again")
		w.corrected = began
	}
	if err := r.writer.WriteStatus(ctx, next.uid, next.status); err != nil {
		complain(ctx, err, "Status not written")
		w.wait, w.failed = w.retry.Step(), next.uid
		return
	}
	w.count(next)
	w.offer, w.at, w.wait, w.retry = *next, began, 0, newBackoff()
}

func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: firstRetry, Factor: 2, Jitter: 0.5, Steps: 10, Cap: lastRetry}
}
