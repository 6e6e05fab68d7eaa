package report

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/store"
)

// board takes Events, each name once, and is away after a few.
type board struct {
	events []*corev1.Event
	room   int // Events until it is away; < 0 for ever
	asked  int
}

func (b *board) WriteEvent(_ context.Context, e *corev1.Event) error {
	b.asked++
	if strings.Contains(e.Message, "r.io/bad") {
		return apierrors.NewBadRequest("bad")
	}
	if slices.ContainsFunc(b.events, func(o *corev1.Event) bool { return o.Name == e.Name }) {
		return nil
	}
	if b.room == 0 {
		return errors.New("the API server is away")
	}
	b.room--
	b.events = append(b.events, e)
	return nil
}

type diary struct{ kept store.Journal }

func (d *diary) Journal() (store.Journal, error) { return d.kept, nil }

func (d *diary) Told(j store.Journal, _ time.Time) error {
	d.kept = store.Journal{Records: slices.Clone(d.kept.Records[len(j.Records):]), Dropped: d.kept.Dropped - j.Dropped}
	return nil
}

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func happened() store.Journal {
	return store.Journal{Dropped: 7, Records: []store.Record{
		{Seq: 8, Time: noon, Kind: store.ImageCached, Image: "r.io/app:v1", Digest: "sha256:x"},
		{Seq: 9, Time: noon.Add(time.Hour), Kind: store.ImageFailing, Image: "r.io/db:v1", Reason: "NotFound", Message: "no such image"},
		{Seq: 10, Time: noon.Add(time.Hour), Kind: store.ImageFailing, Image: "r.io/bad:v1"},
		{Seq: 11, Time: noon.Add(-9000 * time.Hour), Kind: store.NodeBooted, Doubtful: true},
	}}
}

// TestToldOnce: what happened while nobody heard it is told with its own times, once, although telling is cut short and
// begun anew by another process.
func TestToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		to, d := &board{room: 2}, &diary{happened()}
		object := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "n1", Namespace: "edgecache-system", UID: "uid"}}
		for range 2 { // processes
			ctx, cancel := context.WithCancel(t.Context())
			teller := NewTeller(to, d)
			go teller.Run(ctx)
			time.Sleep(time.Hour)
			teller.Hear(object)
			time.Sleep(time.Minute)
			cancel()
			synctest.Wait()
			if len(d.kept.Records) == 0 {
				t.Fatal("told although the API server was away")
			}
			to.room = 1
		}
		teller := NewTeller(to, d)
		to.room = -1
		go teller.Run(t.Context())
		teller.Hear(object)
		time.Sleep(time.Minute)
		synctest.Wait()
		asked := to.asked
		teller.Hear(object)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(d.kept.Records) != 0 || d.kept.Dropped != 0 || to.asked != asked {
			t.Errorf("left %+v, asked %d times for nothing", d.kept, to.asked-asked)
		}
		var got []string
		for _, e := range to.events {
			got = append(got, e.Reason+" "+e.EventTime.UTC().Format(time.RFC3339))
		}
		want := []string{"RecordsDropped 2026-11-01T12:00:00Z", "ImageCached 2026-11-01T12:00:00Z", "ImageFailing 2026-11-01T13:00:00Z", "NodeBooted 2025-10-22T12:00:00Z"}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// TestEvent: what an Event has of a record.
func TestEvent(t *testing.T) {
	t.Parallel()
	object := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: strings.Repeat("n", 199) + "." + strings.Repeat("m", 53), Namespace: "edgecache-system", UID: "uid"}}
	records := happened().Records
	failing, booted := event(records[1], object), event(records[3], object)
	if want := "image cannot be brought: r.io/db:v1: NotFound: no such image"; failing.Message != want || failing.Type != corev1.EventTypeWarning {
		t.Errorf("%s %q, want %q", failing.Type, failing.Message, want)
	}
	if failing.Annotations != nil || booted.Annotations[DoubtfulAnnotation] != "true" || !strings.Contains(booted.Message, "clock was wrong") {
		t.Errorf("a doubtful time is not marked: %q, %v", booted.Message, booted.Annotations)
	}
	if !failing.FirstTimestamp.Equal(&failing.LastTimestamp) || !failing.LastTimestamp.Time.Equal(failing.EventTime.Time) {
		t.Errorf("times differ: %+v", failing)
	}
	if len(failing.Name) > 253 || strings.Contains(failing.Name, "..") || len(failing.ReportingInstance) > 128 {
		t.Errorf("name %q, instance %q", failing.Name, failing.ReportingInstance)
	}
	other := object.DeepCopy()
	other.UID = "other"
	names := map[string]bool{failing.Name: true, booted.Name: true, event(records[1], other).Name: true, dropped(happened(), object).Name: true}
	if again := event(records[1], object); len(names) != 4 || again.Name != failing.Name {
		t.Errorf("names: %v, and %s again", names, again.Name)
	}
	for kind := range wordings {
		if e := event(store.Record{Kind: kind, Time: noon}, object); e.Reason == "" || e.Action == "" || e.Message == "" {
			t.Errorf("%s: %+v", kind, e)
		}
	}
}
