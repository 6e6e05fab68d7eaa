package fetch

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// reportEvery bounds how often progress is reported: often enough for a progress bar.
const reportEvery = 250 * time.Millisecond

// Progress is how much of an image is on the node, in compressed bytes of the node's
// platform: manifest, config and layers, each blob counted once.
type Progress struct {
	// Size is the total, known once the manifest is there. Never 0 in a report.
	Size int64
	// Done is what the store holds of it, whoever fetched it. It never goes back within
	// one call, also when bytes had to be thrown away.
	Done int64
}

// tracker turns the offsets of blobs into reports.
type tracker struct {
	report func(Progress) // nil for nobody

	mu    sync.Mutex // guards what follows, and orders the reports
	size  int64      // 0 until begin: nothing is reported before
	done  map[digest.Digest]int64
	sum   int64       // of done
	shown int64       // Done of the last report
	last  time.Time   // of the last report
	later *time.Timer // a report that is due, so that the last change is not kept back
	ended bool
}

func newTracker(report func(Progress)) *tracker {
	return &tracker{report: report, done: map[digest.Digest]int64{}}
}

// begin sets the total and makes the first report.
func (t *tracker) begin(size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = size
	t.show()
}

// at says that the store holds the first n bytes of blob d.
func (t *tracker) at(d digest.Digest, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum += n - t.done[d]
	t.done[d] = n
	switch wait := reportEvery - time.Since(t.last); {
	case wait <= 0:
		t.show()
	case t.later == nil && t.size != 0:
		t.later = time.AfterFunc(wait, t.showLater)
	}
}

// showLater reports what at kept back.
func (t *tracker) showLater() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.later != nil {
		t.show()
	}
}

// end makes the last report. Nothing is reported after it.
func (t *tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.show()
	t.ended = true
}

// show reports, under mu.
func (t *tracker) show() {
	if t.later != nil {
		t.later.Stop()
		t.later = nil
	}
	if t.report == nil || t.size == 0 || t.ended {
		return
	}
	t.shown, t.last = max(t.shown, min(t.sum, t.size)), time.Now()
	t.report(Progress{Size: t.size, Done: t.shown})
}
