package caches

import (
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/rollout"
)

// rounds remembers which look-ups of each cache were asked for. It is safe for concurrent
// use; a round is used by the one worker that has its cache's key.
type rounds struct {
	mu sync.Mutex
	m  map[wish.Owner]*round // guarded by mu
}

// round is the last refresh of a cache.
type round struct {
	uid        string
	generation int64
	token      string
	next       time.Time // of the periodic refresh; zero when there is none
	interval   time.Duration
	asked      time.Time // of the last look-ups
	touched    fingerprint
	rollout    *rollout.Decision // the last one
	written    time.Time         // when the status was written last
}

// fingerprint is what the wish of nodes depends on.
type fingerprint struct {
	generation int64
	state      v1alpha1.CacheState // as it counts: Suspended while it is refused
	deleting   bool
	secrets    string
	targets    rollout.Targets
	asks       map[imageref.Reference]fleet.Ask
}

func (f fingerprint) equal(g fingerprint) bool {
	return f.generation == g.generation && f.state == g.state && f.deleting == g.deleting && f.secrets == g.secrets &&
		maps.Equal(f.targets, g.targets) && maps.Equal(f.asks, g.asks)
}

// of gives the round of a cache. A cache seen for the first time continues where its
// status says that the controller was: what changed since then is looked up again.
func (r *rounds) of(ic *v1alpha1.ImageCache, now time.Time) *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	owner := wish.OwnerOf(ic)
	if got := r.m[owner]; got != nil && got.uid == string(ic.UID) {
		return got
	}
	first := &round{uid: string(ic.UID), generation: ic.Status.ObservedGeneration, token: ic.Status.LastHandledRefreshAt}
	if first.generation == 0 {
		first.generation = ic.Generation
		first.token = ic.Annotations[v1alpha1.AnnotationRequestedAt]
	}
	first.schedule(ic, now)
	if r.m == nil {
		r.m = map[wish.Owner]*round{}
	}
	r.m[owner] = first
	return first
}

func (r *rounds) forget(owner wish.Owner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.m, owner)
}

// schedule sets when the next periodic refresh is due. After a start or a change of the
// interval it falls anywhere within one interval.
func (r *round) schedule(ic *v1alpha1.ImageCache, now time.Time) {
	interval := fleet.RefreshInterval(&ic.Spec)
	switch {
	case interval == 0:
		r.next = time.Time{}
	case interval != r.interval || r.next.IsZero():
		r.next = now.Add(rand.N(interval) + 1)
	}
	r.interval = interval
}

// due says how long it is until the next periodic refresh, 0 when there is none.
func (r *round) due(now time.Time) time.Duration {
	if r.next.IsZero() {
		return 0
	}
	return max(r.next.Sub(now), time.Millisecond)
}

// again begins a new round if the spec changed, a refresh was asked for or one is due. It
// says which images are looked up again, references by digest never being among them, and
// whether those that were not found are.
func (r *round) again(ic *v1alpha1.ImageCache, now time.Time) (tags func(imageref.Reference) bool, asked bool) {
	token := ic.Annotations[v1alpha1.AnnotationRequestedAt]
	asked = r.generation != ic.Generation || r.token != token
	r.generation, r.token = ic.Generation, token
	r.schedule(ic, now)
	refresh := !r.next.IsZero() && !now.Before(r.next)
	if refresh {
		r.next = now.Add(jittered(r.interval))
	}
	return func(ref imageref.Reference) bool {
		return ref.Tag() != "" && (asked || refresh && fleet.AtEveryRefresh(ic.Spec.ImagePullPolicy, ref))
	}, asked
}
