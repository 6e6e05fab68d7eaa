package explain

import (
	"fmt"
	"time"

	"edgecache.dev/scheduler-plugin/scoring"
)

// Decision is where a pod went, as far as its images are concerned.
type Decision struct {
	// Node is the chosen one, and Chosen what the images need there.
	Node   string
	Chosen scoring.Estimate
	// Candidates is how many nodes were scored for the pod. 0 where nothing was scored: one node was left, or the node
	// was chosen by the scores of a pod of the same kind just before.
	Candidates int
	// MeanMillis is the ready time that the candidates have on average, ShortestMillis that of the soonest: 0 without
	// candidates.
	MeanMillis, ShortestMillis int64
}

// Saved is by how much the images are ready sooner than they would be on the candidates on average. It is negative where
// other reasons than images decided, and 0 without candidates.
func (d *Decision) Saved() time.Duration {
	if d.Candidates == 0 {
		return 0
	}
	return time.Duration(d.MeanMillis-d.Chosen.Millis) * time.Millisecond
}

// Reason is why a decision deserves an Event.
type Reason string

// Reasons of Events on pods.
const (
	// ReasonNone: there is nothing to tell.
	ReasonNone Reason = ""
	// ReasonImagesPresent: the pod starts without a pull, where elsewhere it would not.
	ReasonImagesPresent Reason = "ImagesPresent"
	// ReasonImagesMissing: images have to be pulled first, all or some of them.
	ReasonImagesMissing Reason = "ImagesMissing"
	// ReasonImagesOutOfReach: the pod does not start on its node as things are.
	ReasonImagesOutOfReach Reason = "ImagesOutOfReach"
)

// Tell says what of a decision deserves an Event: that it saved a pull, or that it will cost one, of more than equal.
func (d *Decision) Tell(equal time.Duration) Reason {
	switch {
	case d.Chosen.Why.Bars():
		return ReasonImagesOutOfReach
	case d.Chosen.Why == scoring.WhyUnknown:
		return ReasonNone // what is a guess is not told
	case d.Chosen.Ready() > equal:
		return ReasonImagesMissing
	case d.Saved() > equal:
		return ReasonImagesPresent
	default:
		return ReasonNone
	}
}

// String is the decision in a sentence.
func (d *Decision) String() string {
	words := fmt.Sprintf("Images on %s: %s", d.Node, Words(&d.Chosen))
	if d.Candidates < 2 {
		return words + "."
	}
	mean := roughly(time.Duration(d.MeanMillis) * time.Millisecond)
	return fmt.Sprintf("%s; the %d candidates need %s on average.", words, d.Candidates, mean)
}
