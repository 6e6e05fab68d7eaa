package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

// tags is a registry that says what its tags stand for.
type tags struct {
	mu     sync.Mutex
	digest digest.Digest
	err    error
	takes  time.Duration
	asked  []time.Time
}

func (g *tags) Digest(context.Context, imageref.Reference) (digest.Digest, error) {
	g.mu.Lock()
	g.asked = append(g.asked, time.Now())
	takes := g.takes
	g.mu.Unlock()
	time.Sleep(takes)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.digest, g.err
}

func (g *tags) delay(takes time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.takes = takes
}

func (g *tags) set(d digest.Digest, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.digest, g.err = d, err
}

func (g *tags) times() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.asked)
}

func (g *tags) expect(t *testing.T, times int) {
	t.Helper()
	if got := g.times(); got != times {
		t.Errorf("the registry was asked %d times, want %d", got, times)
	}
}

const app = "r.io/app:v1"

func resolving(d digest.Digest, edits ...func(*v1alpha1.NodeImage)) v1alpha1.NodeImageCacheSpec {
	img := image(app, d)
	img.Resolve = v1alpha1.ResolveNode
	for _, edit := range edits {
		edit(&img)
	}
	return images(img)
}

func withToken(s string) func(*v1alpha1.NodeImage) {
	return func(i *v1alpha1.NodeImage) { i.RefreshToken = s }
}

// says waits a while and checks what the status has of the image.
func (b *bench) says(phase v1alpha1.ImagePhase, want *v1alpha1.ResolvedTag) {
	b.t.Helper()
	time.Sleep(2 * time.Second)
	b.desk.mu.Lock()
	defer b.desk.mu.Unlock()
	got := b.desk.last.Images[0]
	if diff := cmp.Diff(want, got.Resolved); diff != "" || got.Phase != phase {
		b.t.Errorf("phase %s %s, want %s; resolved (-want +got):\n%s", got.Phase, got.Reason, phase, diff)
	}
}

// TestResolvesAsAsked is the life of a tag on one node: found, brought at the digest that
// the controller names, asked for again by token, with the answer kept over a restart.
func TestResolvesAsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := &tags{digest: d1}
		b := newBench(t, Options{Resolver: registry})
		b.wish(1, resolving(""))
		b.says(v1alpha1.PhasePending, &v1alpha1.ResolvedTag{Digest: d1.String()})
		if calls := b.driver.calls(); len(calls) > 0 {
			t.Errorf("brought %v before a digest was wished", calls)
		}
		time.Sleep(24 * time.Hour)
		registry.expect(t, 1)

		b.wish(2, resolving(d1))
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{Digest: d1.String()})
		registry.set(d2, nil)
		b.wish(3, resolving(d1, withToken("t")))
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{Digest: d2.String(), RefreshToken: "t", Newer: true})
		b.stop()

		b.start(Options{Resolver: registry})
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{Digest: d2.String(), RefreshToken: "t", Newer: true})
		registry.expect(t, 2)
		b.wish(4, resolving(d2, withToken("t")))
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{Digest: d2.String(), RefreshToken: "t"})
		registry.expect(t, 2)
		b.stop()
	})
}

// TestWhoComesLaterDoesNotAsk: a new agent, or one that lost its store, takes the digest of
// its site as it is, over a restart, too, and answers the next token.
func TestWhoComesLaterDoesNotAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := &tags{digest: d2}
		b := newBench(t, Options{Resolver: registry})
		b.wish(1, resolving(d1, withToken("t")))
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{RefreshToken: "t"})
		b.stop()
		b.start(Options{Resolver: registry})
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{RefreshToken: "t"})
		registry.expect(t, 0)
		b.wish(2, resolving(d1, withToken("u")))
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{Digest: d2.String(), RefreshToken: "u", Newer: true})
		b.stop()
	})
}

// TestRegistryThatDoesNotAnswer: what has no digest fails and is asked for with backoff;
// what has one stays as it is.
func TestRegistryThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := &tags{err: &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("no route")}}
		b := newBench(t, Options{Resolver: registry})
		b.wish(1, resolving(""))
		b.says(v1alpha1.PhaseFailed, nil)
		time.Sleep(time.Hour)
		if n := registry.times(); n < 10 || n > 30 {
			t.Errorf("asked %d times within an hour, want about 18", n)
		}
		registry.set(d1, nil)
		time.Sleep(10 * time.Minute)
		b.says(v1alpha1.PhasePending, &v1alpha1.ResolvedTag{Digest: d1.String()})

		b.wish(2, resolving(d1))
		registry.set("", &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("no route")})
		b.wish(3, resolving(d1, withToken("t")))
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{Digest: d1.String(), Reason: "NetworkError"})
		registry.set(d1, nil)
		time.Sleep(10 * time.Minute)
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{Digest: d1.String(), RefreshToken: "t"})
		b.stop()
	})
}

// TestAFailureIsNotTheAnswerToALaterToken: while the question for a token runs, nothing is
// said of it, though the image is still failing from before.
func TestAFailureIsNotTheAnswerToALaterToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := &tags{err: &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("no route")}}
		b := newBench(t, Options{Resolver: registry})
		b.wish(1, resolving("", withToken("s")))
		b.says(v1alpha1.PhaseFailed, &v1alpha1.ResolvedTag{Reason: "NetworkError"})
		time.Sleep(time.Hour)
		registry.delay(30 * time.Second)
		b.wish(2, resolving("", withToken("t")))
		b.says(v1alpha1.PhaseFailed, nil)
		time.Sleep(time.Minute)
		b.says(v1alpha1.PhaseFailed, &v1alpha1.ResolvedTag{Reason: "NetworkError"})
		b.stop()
	})
}

// TestResolvesFromTimeToTime: asked every interval, told only what is new.
func TestResolvesFromTimeToTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := &tags{digest: d1}
		b := newBench(t, Options{Resolver: registry})
		hourly := func(i *v1alpha1.NodeImage) { i.ResolveEvery = &metav1.Duration{Duration: time.Hour} }
		b.wish(1, resolving(d1, hourly))
		time.Sleep(24 * time.Hour)
		b.says(v1alpha1.PhaseCached, nil)
		if n := registry.times(); n < 21 || n > 27 {
			t.Errorf("asked %d times within a day, want about 24", n)
		}
		registry.set("", &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("no route")})
		time.Sleep(3 * time.Hour)
		b.says(v1alpha1.PhaseCached, nil)
		registry.set(d2, nil)
		time.Sleep(3 * time.Hour)
		b.says(v1alpha1.PhaseCached, &v1alpha1.ResolvedTag{Digest: d2.String(), Newer: true})
		b.stop()
	})
}

// looks is a runtime that counts how often it is looked at.
type looks struct {
	*driver

	n atomic.Int32
}

func (l *looks) Inventory(ctx context.Context) (runtime.Inventory, error) {
	l.n.Add(1)
	return l.driver.Inventory(ctx)
}

// TestQuestionsDoNotLook: the runtime is looked at as often as without questions, whether
// registries give what is known or do not answer.
func TestQuestionsDoNotLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry, counter := &tags{digest: d1}, &looks{}
		b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
		b.as = func(d *driver) runtime.Driver { counter.driver = d; return counter }
		b.start(Options{Resolver: registry})
		var list []v1alpha1.NodeImage
		for i := range 100 {
			img := image(fmt.Sprintf("r.io/app%02d:latest", i), d1)
			img.Resolve, img.ResolveEvery = v1alpha1.ResolveNode, &metav1.Duration{Duration: 15 * time.Minute}
			list = append(list, img)
		}
		b.wish(1, images(list...))
		time.Sleep(time.Hour)
		quiet := func(what string) {
			looked, asked := counter.n.Load(), registry.times()
			time.Sleep(time.Hour)
			if n := counter.n.Load() - looked; n > int32(time.Hour/pollWithHints)+1 {
				t.Errorf("%s: looked %d times within an hour, want 12", what, n)
			}
			if n := registry.times() - asked; n < 300 {
				t.Errorf("%s: asked %d times within an hour, want about 400", what, n)
			}
		}
		quiet("answers that are known")
		registry.set("", &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("no route")})
		quiet("no answers")
		b.stop()
	})
}

// TestAskedOnceWithoutARuntime: what an answer changes is not worked out while the runtime
// does not answer, and the question not asked over and over meanwhile.
func TestAskedOnceWithoutARuntime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := &tags{err: &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("no route")}}
		b := newBench(t, Options{Resolver: registry})
		b.wish(1, resolving(""))
		time.Sleep(2 * time.Second)
		registry.expect(t, 1)
		registry.set(d1, nil)
		b.driver.setAway(true)
		time.Sleep(time.Hour)
		registry.expect(t, 2)
		b.driver.setAway(false)
		time.Sleep(time.Hour)
		b.says(v1alpha1.PhasePending, &v1alpha1.ResolvedTag{Digest: d1.String()})
		registry.expect(t, 2)
		b.stop()
	})
}

// TestNobodyToAsk: an agent that cannot ask says so on the image.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(1, resolving(""))
		b.says(v1alpha1.PhaseFailed, nil)
		b.desk.expect(t, 1, app+" Failed RegistryError")
		b.stop()
	})
}
