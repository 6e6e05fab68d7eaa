package scoring

import (
	"math"
	"time"
)

// Why is the word for an estimate.
type Why uint8

// Whys. The last four are bars: the pod does not start on the node as things are.
const (
	WhyCached        Why = iota // every image is there
	WhyJoins                    // what is not there is already on its way
	WhyPartly                   // some layers are there
	WhyEmpty                    // nothing is there
	WhyUnknown                  // no agent tells: only what the kubelet lists is taken to be there
	WhyOffline                  // a registry is out of reach, and the pod needs it
	WhyNeverPulled              // imagePullPolicy is Never, and the image is not there
	WhyNoRoom                   // the disk does not hold what is missing
	WhyOtherPlatform            // an image has nothing for the node's platform
)

var whys = [...]string{
	WhyCached: "Cached", WhyJoins: "Joins", WhyPartly: "Partly", WhyEmpty: "Empty", WhyUnknown: "Unknown",
	WhyOffline: "Offline", WhyNeverPulled: "NeverPulled", WhyNoRoom: "NoRoom", WhyOtherPlatform: "OtherPlatform",
}

// String gives the word in CamelCase, as metrics and traces use it.
func (w Why) String() string { return whys[w] }

// Bars says whether the pod does not start on the node as things are.
func (w Why) Bars() bool { return w >= WhyOffline }

// Facts are what is known about one pod on one node. Amounts are compressed bytes, each layer counted once.
type Facts struct {
	Total   int64 // all of the pod's images, for the node's platform
	Missing int64 // neither on the node nor on their way to it
	Joining int64 // on their way to the node, promised to other pods or being pulled by its agent
	Ahead   int64 // all that is on its way over the same link, Joining included

	BytesPerSecond  int64 // from the slowest of the registries that something is missing from
	UnpackPerSecond int64

	AsksRegistry bool // a registry is asked even where nothing is missing
	Unknown      bool // no agent tells
	Bar          Why  // one of the bars, or 0
}

// Shared is how much of the images is on the node.
func (f *Facts) Shared() int64 { return f.Total - f.Missing - f.Joining }

// Estimate is how long a pod's images take on a node, and from what that follows.
type Estimate struct {
	Facts
	Millis int64 // until all images are ready; at most Rules.Max
	Why    Why
}

// Ready is the ready time as a duration.
func (e *Estimate) Ready() time.Duration { return time.Duration(e.Millis) * time.Millisecond }

// roundTrip is what it takes to ask a registry for a manifest, in milliseconds: a name look-up, TLS, a token, the answer.
const roundTrip = 500

// Rules are the limits of the scale.
type Rules struct {
	Equal    int64   // milliseconds that do not count
	Max      int64   // milliseconds that score 0
	FadeFrom float64 // share of a node in use, 0 to 1, from where its score fades
}

// Estimate works out the ready time.
func (r *Rules) Estimate(f Facts) Estimate {
	e := Estimate{Facts: f, Why: f.why()}
	if e.Why.Bars() {
		e.Millis = r.Max
		return e
	}
	e.Millis = min(f.millis(), r.Max)
	return e
}

func (f *Facts) why() Why {
	switch {
	case f.Bar.Bars():
		return f.Bar
	case f.Unknown:
		return WhyUnknown
	case f.Missing == 0 && f.Joining == 0:
		return WhyCached
	case f.Missing == 0:
		return WhyJoins
	case f.Shared() > 0 || f.Joining > 0:
		return WhyPartly
	}
	return WhyEmpty
}

// millis is the time for what is ahead on the link and what is missing, one after the other, and for unpacking.
func (f *Facts) millis() int64 {
	coming := f.Missing + f.Joining
	if coming == 0 {
		if f.AsksRegistry {
			return roundTrip
		}
		return 0
	}
	download := float64(max(f.Ahead, f.Joining)+f.Missing) / float64(max(f.BytesPerSecond, 1))
	unpack := float64(coming) / float64(max(f.UnpackPerSecond, 1))
	return roundTrip + int64(math.Min((download+unpack)*1000, math.MaxInt32))
}
