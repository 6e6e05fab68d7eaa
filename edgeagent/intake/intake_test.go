package intake

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"edgecache.dev/api/v1alpha1"
)

// ear writes down what it hears: the object's UID, or "none".
type ear struct{ heard []string }

// Hear takes a note.
func (e *ear) Hear(object *v1alpha1.NodeImageCache) {
	if object == nil {
		e.heard = append(e.heard, "none")
		return
	}
	e.heard = append(e.heard, string(object.UID))
}

func object(name string) *v1alpha1.NodeImageCache {
	o := &v1alpha1.NodeImageCache{}
	o.Name, o.UID = name, "uid"
	return o
}

func TestSink(t *testing.T) {
	t.Parallel()
	mine, other := object("n1"), object("n2")
	tests := map[string]struct {
		do   func(*sink) error
		want []string
	}{
		"a new object":                    {func(s *sink) error { return s.Add(mine) }, []string{"uid"}},
		"a changed object":                {func(s *sink) error { return s.Update(mine) }, []string{"uid"}},
		"the object is gone":              {func(s *sink) error { return s.Delete(mine) }, []string{"none"}},
		"a list with the object":          {func(s *sink) error { return s.Replace([]any{other, mine}, "") }, []string{"uid"}},
		"an empty list":                   {func(s *sink) error { return s.Replace(nil, "") }, []string{"none"}},
		"other nodes' objects are passed": {func(s *sink) error { return errors.Join(s.Add(other), s.Delete(other), s.Resync()) }, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &ear{}
			if err := tc.do(&sink{node: "n1", to: e}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, e.heard); diff != "" {
				t.Errorf("heard (-want +got):\n%s", diff)
			}
		})
	}
	if err := (&sink{node: "n1", to: &ear{}}).Update("a string"); err == nil {
		t.Error("an object of another type is taken")
	}
}

// TestSpread: after a long outage the next try waits at random, after a short one it does
// not, and hours of an open watch are no outage.
func TestSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away := false
		answer := func() error {
			if away {
				return errors.New("away")
			}
			return nil
		}
		s := &spread{backoff: newBackoff(), ListWatch: &cache.ListWatch{
			ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
				return &v1alpha1.NodeImageCacheList{}, answer()
			},
			WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
				return watch.NewFake(), answer()
			},
		}}
		waits := func() time.Duration {
			began := time.Now()
			_, _ = s.ListWithContext(t.Context(), metav1.ListOptions{})
			return time.Since(began)
		}
		if _, err := s.WatchWithContext(t.Context(), metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Hour)
		away = true
		if w := waits(); w != 0 {
			t.Errorf("the first failure after hours of an open watch waited %s", w)
		}
		time.Sleep(30 * time.Second)
		if w := waits(); w != 0 {
			t.Errorf("a try in a short outage waited %s", w)
		}
		time.Sleep(time.Minute)
		var sum time.Duration
		for range 20 {
			w := waits()
			if w > lastRetry {
				t.Errorf("waited %s, at most %s", w, lastRetry)
			}
			sum += w
			time.Sleep(lastRetry) // longer than any pause that is left: only the smear is
		}
		if sum < smear || sum > 19*smear {
			t.Errorf("20 tries in a long outage waited %s in all: not at random", sum)
		}
		away = false
		waits()
		if w := waits(); w != 0 {
			t.Errorf("after a success waited %s", w)
		}
	})
}

// TestReconnects: pauses grow to minutes, stay within their bound, and begin anew after a
// success, however soon client-go asks.
func TestReconnects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		away := true
		s := &spread{backoff: newBackoff(), ListWatch: &cache.ListWatch{
			ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
				tries = append(tries, time.Now())
				if away {
					return nil, errors.New("away")
				}
				return &v1alpha1.NodeImageCacheList{}, nil
			},
		}}
		try := func() {
			_, _ = s.ListWithContext(t.Context(), metav1.ListOptions{})
			time.Sleep(firstRetry) // client-go's own pause, at least
		}
		for range 60 {
			try()
		}
		for i := 1; i < len(tries); i++ {
			least, most := firstRetry, lastRetry
			if i > 8 {
				least = lastRetry / 2
			}
			if pause := tries[i].Sub(tries[i-1]); pause < least || pause > most {
				t.Errorf("pause %d is %s, want %s to %s", i, pause, least, most)
			}
		}
		away = false
		try()
		away = true
		try()
		try()
		if pause := tries[len(tries)-1].Sub(tries[len(tries)-2]); pause > 2*firstRetry {
			t.Errorf("after a success the first pause is %s, want at most %s", pause, 2*firstRetry)
		}
	})
}
