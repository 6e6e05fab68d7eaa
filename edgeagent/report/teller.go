package report

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/pause"
)

const (
	// gatherEvents is how long a record waits for others, jittered: telling them costs a
	// commit.
	gatherEvents = 10 * time.Second
	// eventPace is the pause between two Events, jittered. A fleet that was away together has
	// much to tell.
	eventPace = 500 * time.Millisecond
)

// Diary is what happened on the node.
type Diary interface {
	// Journal gives what was not told yet.
	Journal() (store.Journal, error)
	// Told takes out of it what was.
	Told(j store.Journal, now time.Time) error
}

// EventWriter makes an Event; one that is there already is no error.
type EventWriter interface {
	WriteEvent(ctx context.Context, e *corev1.Event) error
}

// Teller tells what happened on the node as Events about its object, once. All of it goes
// through the journal, whether the API server was there at the time or not.
type Teller struct {
	writer EventWriter
	diary  Diary
	wake   chan struct{}

	mu    sync.Mutex
	about *v1alpha1.NodeImageCache // guarded by mu; nil while there is none
}

// NewTeller makes a teller that tells nothing until it is run.
func NewTeller(w EventWriter, d Diary) *Teller {
	return &Teller{writer: w, diary: d, wake: make(chan struct{}, 1)}
}

// Hear takes in how the node's object stands; nil when there is none. It is when there may
// be something to tell: whatever happens also changes the status, and that is heard.
func (t *Teller) Hear(object *v1alpha1.NodeImageCache) {
	t.mu.Lock()
	t.about = object
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *Teller) object() *v1alpha1.NodeImageCache {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.about
}

// Run tells what there is, whenever the API server was heard, until the context ends.
func (t *Teller) Run(ctx context.Context) {
	retry := newBackoff()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		if !pause.For(ctx, wait.Jitter(gatherEvents, 0.5)) {
			return
		}
		for {
			err := t.tell(ctx)
			if err == nil {
				retry = newBackoff()
				break
			}
			complain(ctx, err, "Events not written")
			if !pause.For(ctx, retry.Step()) {
				return
			}
		}
	}
}

// tell tells the whole journal. What is told twice, because this was cut short, has the
// same name both times.
func (t *Teller) tell(ctx context.Context) error {
	about := t.object()
	if about == nil {
		return nil
	}
	j, err := t.diary.Journal()
	if err != nil || len(j.Records) == 0 && j.Dropped == 0 {
		return err
	}
	var events []*corev1.Event
	if j.Dropped > 0 {
		events = append(events, dropped(j, about))
	}
	for _, r := range j.Records {
		events = append(events, event(r, about))
	}
	for i, e := range events {
		if i > 0 && !pause.For(ctx, wait.Jitter(eventPace, 1)) {
			return ctx.Err()
		}
		if err := t.writer.WriteEvent(ctx, e); apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
			klog.FromContext(ctx).Error(err, "An Event is left out", "reason", e.Reason)
		} else if err != nil {
			return err
		}
	}
	if err := t.diary.Told(j, time.Now()); err != nil {
		return fmt.Errorf("noting which Events were written: %w", err)
	}
	return nil
}
