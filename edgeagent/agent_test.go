package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
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
	"edgecache.dev/edgeagent/store"
)

var d1, d2 = digestOf('1'), digestOf('2')

// bench is an agent with a real store, and a runtime and an API server in memory: what is
// tested is the order and the time of things.
type bench struct {
	t      *testing.T
	dir    string
	driver *driver
	as     func(*driver) runtime.Driver // nil: as it is
	memory *store.Store
	disk   *disk
	desk   *desk
	to     Reporter // nil: the desk
	agent  *Agent
	cancel context.CancelFunc
	done   chan error
}

func newBench(t *testing.T, options Options) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
	b.start(options)
	return b
}

func (b *bench) start(options Options) {
	b.t.Helper()
	memory, _, err := store.Open(b.t.Context(), b.dir, "n1", trust)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	b.memory, b.disk, b.cancel, b.done = memory, &disk{Memory: memory}, cancel, make(chan error, 1)
	given, to := runtime.Driver(b.driver), Reporter(b.desk)
	if b.as != nil {
		given = b.as(b.driver)
	}
	if b.to != nil {
		to = b.to
	}
	b.agent = New(b.disk, given, to, options)
	go func() { b.done <- b.agent.Run(ctx) }()
}

func (b *bench) stop() {
	b.t.Helper()
	b.cancel()
	if err := errors.Join(<-b.done, b.memory.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// wish tells the agent what its object asks for.
func (b *bench) wish(generation int64, spec v1alpha1.NodeImageCacheSpec) {
	spec.NodeUID = "node-uid"
	b.agent.Hear(&v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: generation}, Spec: spec})
}

func images(list ...v1alpha1.NodeImage) v1alpha1.NodeImageCacheSpec {
	return v1alpha1.NodeImageCacheSpec{Images: list}
}

func image(name string, d digest.Digest) v1alpha1.NodeImage {
	return v1alpha1.NodeImage{Name: name, Digest: d.String()}
}

func TestBringsWhatIsWished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(2, images(image("r.io/app:v1", d1), image("r.io/db:v1", d2)))
		time.Sleep(10 * time.Second)
		b.desk.expect(t, 2, "r.io/app:v1 Cached", "r.io/db:v1 Cached")
		b.stop()
		ledger := b.ledger()
		if ledger["r.io/app:v1"].Digest != d1.String() || ledger["r.io/db:v1"].Digest != d2.String() {
			t.Errorf("ledger = %+v", ledger)
		}
	})
}

func (b *bench) ledger() map[string]store.Entry {
	b.t.Helper()
	s, _, err := store.Open(b.t.Context(), b.dir, "n1", trust)
	if err != nil {
		b.t.Fatal(err)
	}
	entries, err := s.Ledger()
	if err := errors.Join(err, s.Close()); err != nil {
		b.t.Fatal(err)
	}
	return entries
}

// TestWorksFromMemory: after a restart nobody answers, and the images come all the same.
func TestWorksFromMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.fail(fetch.NetworkError, 1)
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Second)
		b.stop()
		began := time.Now()
		b.start(Options{})
		time.Sleep(time.Second)
		b.driver.expect(t, "r.io/app:v1")
		if at := b.driver.last(); at.Sub(began) > time.Second {
			t.Errorf("tried %s after the start, want at once", at.Sub(began))
		}
		b.stop()
	})
}

func TestLostImagesComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Second)
		b.agent.Hear(nil) // the object is gone as well: what was wished still holds
		b.driver.lose("r.io/app:v1")
		time.Sleep(time.Second)
		b.driver.expect(t, "r.io/app:v1", "r.io/app@"+d1.String())
		b.stop()
	})
}

func TestFailuresBackOff(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		reason fetch.Reason
		least  int
		most   int
	}{
		"what time may heal":      {fetch.NetworkError, 15, 20},
		"what somebody must mend": {fetch.NotFound, 5, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Options{})
				b.driver.fail(tc.reason, 1000)
				b.wish(2, images(image("r.io/app:v1", d1)))
				time.Sleep(time.Hour)
				if n := len(b.driver.calls()); n < tc.least || n > tc.most {
					t.Errorf("%d attempts in an hour, want %d to %d", n, tc.least, tc.most)
				}
				b.desk.expect(t, 2, "r.io/app:v1 Failed "+string(tc.reason))
				if n := commits(t, b.dir); n > 10 {
					t.Errorf("%d transactions for one failing image", n)
				}
				b.stop()
			})
		})
	}
}

// TestARuntimeThatForgets costs no busy loop.
func TestARuntimeThatForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.with(func() { b.driver.forgets = true })
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Hour)
		if n := len(b.driver.calls()); n < 5 || n > 25 {
			t.Errorf("%d attempts in an hour, want a few", n)
		}
		b.stop()
	})
}

func TestWorkersAndPriority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Workers: 2})
		b.driver.setTakes(time.Minute)
		var list []v1alpha1.NodeImage
		for i := range 6 {
			img := image(fmt.Sprintf("r.io/img%d:v1", i), d1)
			img.Priority = int32(i)
			list = append(list, img)
		}
		b.wish(2, images(list...))
		time.Sleep(30 * time.Second)
		if got := b.driver.calls(); !slices.Equal(sorted(got), []string{"r.io/img4:v1", "r.io/img5:v1"}) {
			t.Errorf("first attempts %v, want the two most important", got)
		}
		time.Sleep(5 * time.Minute)
		if most, _ := b.driver.counts(); most != 2 {
			t.Errorf("%d attempts at a time, want 2", most)
		}
		b.desk.expect(t, 2, "r.io/img0:v1 Cached", "r.io/img1:v1 Cached", "r.io/img2:v1 Cached", "r.io/img3:v1 Cached", "r.io/img4:v1 Cached", "r.io/img5:v1 Cached")
		b.stop()
	})
}

func TestANewDigestEndsTheOldAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.setTakes(time.Hour)
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Minute)
		b.driver.setTakes(time.Second)
		b.wish(3, images(image("r.io/app:v1", d2)))
		time.Sleep(10 * time.Second)
		b.desk.expect(t, 3, "r.io/app:v1 Cached")
		if _, cancelled := b.driver.counts(); cancelled != 1 || b.driver.holds()[ref("r.io/app:v1")].Digest != d2 {
			t.Errorf("%d attempts cancelled, app:v1 is %v", cancelled, b.driver.holds())
		}
		b.stop()
	})
}

func TestNoLongerWishedEndsTheAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.setTakes(time.Hour)
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Minute)
		b.wish(3, images())
		time.Sleep(10 * time.Second)
		b.desk.expect(t, 3)
		if _, cancelled := b.driver.counts(); cancelled != 1 {
			t.Errorf("%d attempts cancelled, want 1", cancelled)
		}
		b.stop()
	})
}

func TestRemoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(2, images(image("r.io/app:v1", d1), image("r.io/app:v2", d1)))
		time.Sleep(time.Second)
		remove := v1alpha1.RemoveImage{Name: "r.io/app:v1", Digest: d1.String(), Since: metav1.NewTime(time.Now())}
		spec := v1alpha1.NodeImageCacheSpec{Images: []v1alpha1.NodeImage{image("r.io/app:v2", d1)}, Remove: []v1alpha1.RemoveImage{remove}}
		b.driver.use(d1)
		b.wish(3, spec)
		time.Sleep(time.Second)
		b.desk.expect(t, 3, "r.io/app:v1 Removing InUse", "r.io/app:v2 Cached")
		b.driver.use()
		time.Sleep(6 * time.Minute)
		b.desk.expect(t, 3, "r.io/app:v2 Cached")
		b.driver.expect(t, "r.io/app:v2", "r.io/app@"+d1.String())

		b.driver.put("r.io/app:v1", d1) // somebody else pulled it meanwhile
		b.agent.Look()
		time.Sleep(time.Second)
		b.driver.expect(t, "r.io/app:v1", "r.io/app:v2", "r.io/app@"+d1.String())
		b.stop()
	})
}

func TestUnknownWishChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(7, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Second)
		before := b.driver.holds()
		b.agent.Hear(nil)
		time.Sleep(time.Minute)
		// The cloud made the Node again: a new object, its wish not worked out.
		b.agent.Hear(&v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{UID: "new", Generation: 1}})
		time.Sleep(time.Hour)
		if diff := cmp.Diff(before, b.driver.holds(), cmp.AllowUnexported(imageref.Reference{})); diff != "" {
			t.Errorf("images changed while the wish was unknown:\n%s", diff)
		}
		b.desk.expect(t, 1, "r.io/app:v1 Cached")
		b.stop()
	})
}

func TestRuntimeAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Second)
		b.driver.setAway(true)
		b.agent.Look()
		time.Sleep(time.Minute)
		b.desk.expect(t, 2, "r.io/app:v1 Cached") // the last known state stands
		if trouble := b.desk.condition(v1alpha1.NodeConditionDegraded); !strings.Contains(trouble, "away") {
			t.Errorf("Degraded says %q", trouble)
		}
		b.driver.lose("r.io/app:v1")
		b.driver.setAway(false)
		time.Sleep(10 * time.Second)
		b.driver.expect(t, "r.io/app:v1", "r.io/app@"+d1.String())
		if trouble := b.desk.condition(v1alpha1.NodeConditionDegraded); trouble != "" {
			t.Errorf("Degraded after the return: %q", trouble)
		}
		b.stop()
	})
}

func TestIdleWritesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Minute)
		before := commits(t, b.dir)
		time.Sleep(24 * time.Hour)
		if after := commits(t, b.dir); after != before {
			t.Errorf("the store changed in an idle day")
		}
		b.stop()
	})
}

// commits counts changes of the store's meta page, which every commit makes.
func commits(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(dir + "/" + store.FileName)
	if err != nil {
		t.Fatal(err)
	}
	const txidAt = 16 + 16 + 16 + 8 + 8 // page header, magic to flags, root bucket, freelist, pgid
	most := 0
	for page := range 2 {
		if id := int(b[page*os.Getpagesize()+txidAt]); id > most {
			most = id
		}
	}
	return most
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

// trust takes a store file for intact: these tests have no damage.
func trust(context.Context, string) error { return nil }

// TestFullDisk: what could not be stored is stored when there is room again, and the work
// goes on meanwhile.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.disk.full.Store(true)
		b.wish(2, images(image("r.io/app:v1", d1)))
		time.Sleep(time.Second)
		b.desk.expect(t, 2, "r.io/app:v1 Cached")
		if trouble := b.desk.condition(v1alpha1.NodeConditionDegraded); !strings.Contains(trouble, "no space left") {
			t.Errorf("Degraded says %q", trouble)
		}
		b.disk.full.Store(false)
		time.Sleep(6 * time.Minute)
		if trouble := b.desk.condition(v1alpha1.NodeConditionDegraded); trouble != "" {
			t.Errorf("Degraded says %q although there is room", trouble)
		}
		b.stop()
		if e := b.ledger()["r.io/app:v1"]; e.Digest != d1.String() {
			t.Errorf("ledger has %+v", e)
		}
	})
}
