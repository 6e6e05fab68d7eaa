package lease_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"edgecache.dev/edgeagent/runtime/lease"
)

// daemon is the part of containerd that knows content, leases and garbage.
type daemon struct {
	db      *metadata.DB
	manager leases.Manager
	ctx     context.Context
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	dir := t.TempDir()
	blobs, err := local.NewStore(filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	db := metadata.NewDB(b, blobs, nil)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx := namespaces.WithNamespace(t.Context(), "k8s.io")
	if err := db.Init(ctx); err != nil {
		t.Fatal(err)
	}
	return &daemon{db: db, manager: metadata.NewLeaseManager(db), ctx: ctx}
}

// store takes the lease of a digest, as a pull does when it begins.
func (d *daemon) store(t *testing.T, dg digest.Digest) lease.Store {
	t.Helper()
	l, err := lease.Keeper{Manager: d.manager}.Take(d.ctx, dg)
	if err != nil {
		t.Fatal(err)
	}
	return lease.Store{Store: d.db.ContentStore(), Lease: l}
}

// collect runs the garbage collector, which needs something deleted to see a reason.
func (d *daemon) collect(t *testing.T) {
	t.Helper()
	if _, err := d.manager.Create(d.ctx, leases.WithID("scratch")); err != nil {
		t.Fatal(err)
	}
	if err := d.manager.Delete(d.ctx, leases.Lease{ID: "scratch"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.db.GarbageCollect(d.ctx); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) leases(t *testing.T) []leases.Lease {
	t.Helper()
	ls, err := d.manager.List(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return ls
}

func (d *daemon) has(t *testing.T, text string) bool {
	t.Helper()
	_, err := d.db.ContentStore().Info(d.ctx, digest.FromString(text))
	if err != nil && !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	return err == nil
}

func (d *daemon) ingests(t *testing.T) (refs []string) {
	t.Helper()
	sts, err := d.db.ContentStore().ListStatuses(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range sts {
		refs = append(refs, st.Ref)
	}
	slices.Sort(refs)
	return refs
}

func (d *daemon) begin(t *testing.T, s content.Ingester, text string) content.Writer {
	t.Helper()
	w, err := s.Writer(d.ctx, content.WithRef(text), content.WithDescriptor(ocispec.Descriptor{Digest: digest.FromString(text), Size: int64(len(text))}))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (d *daemon) finish(t *testing.T, w content.Writer, text string) {
	t.Helper()
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(d.ctx, int64(len(text)), digest.FromString(text)); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) write(t *testing.T, s content.Ingester, text string) {
	t.Helper()
	d.finish(t, d.begin(t, s, text), text)
}

// set sets the clock of a bubble, which begins in the year 2000.
func set(t *testing.T) {
	t.Helper()
	time.Sleep(time.Until(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)))
}

var image = digest.FromString("image")

func TestContentIsKeptUntilRelease(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	s := d.store(t, image)
	d.write(t, s, "layer")
	d.collect(t)
	if !d.has(t, "layer") {
		t.Fatal("content was collected under a lease")
	}
	if err := s.Lease.Release(d.ctx); err != nil {
		t.Fatal(err)
	}
	d.collect(t)
	if d.has(t, "layer") || len(d.leases(t)) != 0 {
		t.Errorf("after release: content %v, leases %v, want none", d.has(t, "layer"), d.leases(t))
	}
	if err := s.Lease.Release(d.ctx); err != nil {
		t.Errorf("releasing twice: %v", err)
	}
}

func TestContentThatWasThereIsKeptToo(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	first, second := d.store(t, image), d.store(t, digest.FromString("another image"))
	d.write(t, first, "base")
	_, err := second.Writer(d.ctx, content.WithRef("base"), content.WithDescriptor(ocispec.Descriptor{Digest: digest.FromString("base"), Size: 4}))
	if !errdefs.IsAlreadyExists(err) {
		t.Fatalf("error = %v, want already exists", err)
	}
	if err := first.Lease.Release(d.ctx); err != nil {
		t.Fatal(err)
	}
	d.collect(t)
	if !d.has(t, "base") {
		t.Error("a shared layer was collected with the image that brought it")
	}
}

func TestHalfALayerSurvivesARestart(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	w := d.begin(t, d.store(t, image), "layer")
	if _, err := w.Write([]byte("lay")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d.collect(t)
	again := d.begin(t, d.store(t, image), "layer")
	if st, err := again.Status(); err != nil || st.Offset != 3 {
		t.Fatalf("status = %+v, %v, want offset 3", st, err)
	}
	if n := len(d.leases(t)); n != 1 {
		t.Errorf("%d leases for one digest, want 1", n)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLeasesEndByThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set(t)
		d := newDaemon(t)
		s := d.store(t, image)
		d.write(t, s, "layer")
		time.Sleep(lease.DefaultTTL - time.Minute)
		d.collect(t)
		if !d.has(t, "layer") {
			t.Error("content was collected before its time")
		}
		time.Sleep(2 * time.Minute)
		d.collect(t)
		if d.has(t, "layer") {
			t.Error("content that everybody forgot is kept for ever")
		}
		// The lease is gone as well: the next pull gets another one.
		d.write(t, s, "layer")
		d.collect(t)
		if !d.has(t, "layer") {
			t.Error("content was collected under the second lease")
		}
	})
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set(t)
		d := newDaemon(t)
		s := d.store(t, image)
		d.write(t, s, "first")
		half := d.begin(t, s, "half")
		if err := half.Close(); err != nil {
			t.Fatal(err)
		}
		for range 10 { // ten times 9 h, with one write each
			time.Sleep(9 * time.Hour)
			d.write(t, s, time.Now().String())
			d.collect(t)
			if n := len(d.leases(t)); n != 1 {
				t.Fatalf("%d leases, want 1", n)
			}
		}
		if !d.has(t, "first") || len(d.ingests(t)) != 1 {
			t.Errorf("after 90 h: first blob %v, ingests %v, want both", d.has(t, "first"), d.ingests(t))
		}
	})
}

func TestWriterThatIsOpenWhileTheLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set(t)
		d := newDaemon(t)
		s := d.store(t, image)
		w := d.begin(t, s, "long")
		time.Sleep(9 * time.Hour)
		d.write(t, s, "short")
		if n := len(d.leases(t)); n != 2 {
			t.Fatalf("%d leases while a writer uses the old one, want 2", n)
		}
		d.collect(t)
		d.finish(t, w, "long")
		if n := len(d.leases(t)); n != 1 {
			t.Errorf("%d leases after the writer ended, want 1", n)
		}
		d.collect(t)
		if !d.has(t, "long") || !d.has(t, "short") {
			t.Errorf("long %v, short %v, want both", d.has(t, "long"), d.has(t, "short"))
		}
	})
}

func TestCrashWhileRenewing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set(t)
		d := newDaemon(t)
		d.write(t, d.store(t, image), "layer")
		time.Sleep(time.Second)
		if _, err := d.manager.Create(d.ctx, leases.WithID("the-new-one"),
			leases.WithLabel("edgecache.dev/pull", image.String()), leases.WithExpiration(24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		d.write(t, d.store(t, image), "other")
		if ls := d.leases(t); len(ls) != 1 || ls[0].ID != "the-new-one" {
			t.Errorf("leases = %v, want the newer one", ls)
		}
		d.collect(t)
		if !d.has(t, "layer") || !d.has(t, "other") {
			t.Errorf("layer %v, other %v, want both", d.has(t, "layer"), d.has(t, "other"))
		}
	})
}

// TestClockThatIsSetLate is a box without battery: it begins in 2000 and is in 2026 when
// the network is there.
func TestClockThatIsSetLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t)
		s := d.store(t, image)
		d.write(t, s, "first")
		set(t)
		d.collect(t)
		d.write(t, s, "second")
		if ls := d.leases(t); len(ls) != 1 || ls[0].Labels["containerd.io/gc.expire"] == "" {
			t.Errorf("leases = %v, want one that expires, now that the clock is set", ls)
		}
		d.collect(t)
		if !d.has(t, "first") || !d.has(t, "second") {
			t.Error("setting the clock cost what was fetched before")
		}
	})
}

// TestClockThatIsBehind finds a lease of the time before a reboot, seemingly far ahead.
func TestClockThatIsBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t)
		if _, err := d.manager.Create(d.ctx, leases.WithID("before-the-reboot"),
			leases.WithLabel("edgecache.dev/pull", image.String()), leases.WithExpiration(26*365*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		d.write(t, d.store(t, image), "layer")
		if ls := d.leases(t); len(ls) != 1 || ls[0].ID != "before-the-reboot" {
			t.Errorf("leases = %v, want the old one: it outlives the setting of the clock", ls)
		}
	})
}

func TestOthersLeasesAreNotTouched(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	if _, err := d.manager.Create(d.ctx, leases.WithID("kubelet")); err != nil {
		t.Fatal(err)
	}
	s, other := d.store(t, image), d.store(t, digest.FromString("another image"))
	d.write(t, s, "layer")
	d.write(t, other, "other layer")
	if err := s.Lease.Release(d.ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(d.leases(t)); n != 2 {
		t.Errorf("leases = %v, want the kubelet's and the other image's", d.leases(t))
	}
}

// broken is a lease service that is away.
type broken struct{ leases.Manager }

var errAway = errors.New("connection refused")

func (broken) List(context.Context, ...string) ([]leases.Lease, error) { return nil, errAway }

func (broken) Create(context.Context, ...leases.Opt) (leases.Lease, error) {
	return leases.Lease{}, errAway
}

func TestServiceAway(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	if _, err := (lease.Keeper{Manager: broken{d.manager}}).Take(d.ctx, image); !errors.Is(err, errAway) {
		t.Errorf("Take: %v, want %v", err, errAway)
	}
	s := d.store(t, image)
	l, err := lease.Keeper{Manager: noCreate{d.manager}}.Take(d.ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	s.Lease = l
	if _, err := s.Writer(d.ctx, content.WithRef("x")); !errors.Is(err, errAway) {
		t.Errorf("Writer: %v, want %v", err, errAway)
	}
}

type noCreate struct{ leases.Manager }

func (noCreate) Create(context.Context, ...leases.Opt) (leases.Lease, error) {
	return leases.Lease{}, errAway
}

func TestHolds(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	s := d.store(t, image)
	if held, err := s.Lease.Holds(d.ctx); err != nil || len(held.Content)+len(held.Ingests) != 0 {
		t.Errorf("before the first use: %v, %v, want nothing", held, err)
	}
	d.write(t, s, "layer")
	half := d.begin(t, s, "half")
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}
	held, err := s.Lease.Holds(d.ctx)
	if err != nil || !slices.Equal(held.Content, []digest.Digest{digest.FromString("layer")}) || !slices.Contains(held.Ingests, "half") {
		t.Errorf("holds %v, %v, want the layer and the half", held, err)
	}
	if s.Lease.IsGone(d.ctx) {
		t.Error("the lease is gone")
	}
	for _, l := range d.leases(t) {
		if err := d.manager.Delete(d.ctx, l); err != nil {
			t.Fatal(err)
		}
	}
	if held, err := s.Lease.Holds(d.ctx); err != nil || len(held.Content) != 0 || !s.Lease.IsGone(d.ctx) {
		t.Errorf("after somebody deleted it: %v, %v, gone %v", held, err, s.Lease.IsGone(d.ctx))
	}
}

// moody fails to delete for a while.
type moody struct {
	leases.Manager
	away bool
}

func (m *moody) Delete(ctx context.Context, l leases.Lease, opts ...leases.DeleteOpt) error {
	if m.away {
		return errAway
	}
	return m.Manager.Delete(ctx, l, opts...)
}

func TestOldLeaseIsDeletedLaterWhenThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set(t)
		d := newDaemon(t)
		m := &moody{Manager: d.manager}
		l, err := lease.Keeper{Manager: m}.Take(d.ctx, image)
		if err != nil {
			t.Fatal(err)
		}
		s := lease.Store{Store: d.db.ContentStore(), Lease: l}
		d.write(t, s, "first")
		time.Sleep(9 * time.Hour)
		m.away = true
		if _, err := s.Writer(d.ctx, content.WithRef("x")); !errors.Is(err, errAway) {
			t.Errorf("error = %v, want %v", err, errAway)
		}
		m.away = false
		d.write(t, s, "second")
		if n := len(d.leases(t)); n != 1 {
			t.Errorf("%d leases, want 1", n)
		}
		d.collect(t)
		if !d.has(t, "first") || !d.has(t, "second") {
			t.Error("content was lost on the way")
		}
	})
}

func TestUsesAtTheSameTime(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	s := d.store(t, image)
	done := make(chan struct{})
	for i := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			text := string(rune('a' + i))
			w, err := s.Writer(d.ctx, content.WithRef(text))
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := w.Write([]byte(text)); err != nil {
				t.Error(err)
			}
			if err := w.Commit(d.ctx, 1, digest.FromString(text)); err != nil {
				t.Error(err)
			}
		}()
	}
	for range 8 {
		<-done
	}
	d.collect(t)
	if n := len(d.leases(t)); n != 1 || !d.has(t, "a") || !d.has(t, "h") {
		t.Errorf("%d leases, a %v, h %v, want one lease that holds all", n, d.has(t, "a"), d.has(t, "h"))
	}
}
