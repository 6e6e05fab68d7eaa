package quiet

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
)

// lines gives a logger and what it wrote so far.
func lines() (logr.Logger, func() []string) {
	var got []string
	return Logger(funcr.New(func(_, args string) { got = append(got, args) }, funcr.Options{})), func() []string { return got }
}

// TestALastingFailure is said at once, and then less and less often.
func TestALastingFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, got := lines()
		at := []int{}
		for minute := range 24 * 60 {
			before := len(got())
			log.Error(fmt.Errorf("no route, try %d", minute), "Status not written")
			if len(got()) > before {
				at = append(at, minute)
			}
			time.Sleep(time.Minute)
		}
		if want := "[0 10 30 70 130 190 250"; fmt.Sprint(at[:7]) != want+"]" || len(at) != 26 {
			t.Errorf("said in minutes %v, want %s … hourly]", at, want)
		}
		time.Sleep(forget + time.Second)
		before := len(got())
		log.Error(errors.New("again"), "Status not written")
		if len(got()) != before+1 {
			t.Error("a failure that is new is not said")
		}
	})
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, got := lines()
		for range 5 {
			log.Info("Image failed", "image", "a", "err", "x")
			log.WithValues("image", "b").WithName("n").Info("Image failed", "err", "y")
			log.Info("Trouble is over", "was", "z")
			log.Info("Image is there", "image", "a")
			time.Sleep(time.Second)
		}
		if len(got()) != 8 {
			t.Errorf("%d lines, want one per failing image, one of trouble and five of what changed: %v", len(got()), got())
		}
		time.Sleep(firstGap)
		log.Info("Image failed", "image", "a", "err", "x")
		if last := got()[len(got())-1]; last != `"level"=0 "msg"="Image failed" "image"="a" "err"="x" "leftOut"=4` {
			t.Errorf("after a silence: %s", last)
		}
	})
}

// TestAThousandImages that fail for a week say a bounded number of lines.
func TestAThousandImages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, got := lines()
		for range 7 * 24 * 12 {
			for i := range 1000 {
				log.Info("Image failed", "image", i, "err", "x")
			}
			time.Sleep(5 * time.Minute)
		}
		if n, most := len(got()), burst+7*24*60; n > most {
			t.Errorf("%d lines, want at most %d", n, most)
		}
		log, _ = lines()
		q, ok := log.GetSink().(*quieter)
		if !ok {
			t.Fatal("no quieter")
		}
		for i := range 2 * most {
			log.Info("Image failed", "image", i, "err", "x")
		}
		if n := len(q.said.subjects); n > most {
			t.Errorf("%d subjects are remembered", n)
		}
	})
}
