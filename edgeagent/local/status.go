package local

import (
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// Schema is the version of the document. It changes when a field loses its meaning.
const Schema = 1

// Where a Status comes from.
const (
	// FromRuntime: the runtime was looked at with the present wish.
	FromRuntime = "Runtime"
	// FromMemory: as the agent remembers it. The runtime has not answered since the agent
	// was started, or since the wish changed.
	FromMemory = "Memory"
)

// Status is how things stand on a node. Times are by the node's clock, which may be wrong;
// durations are not read from it.
type Status struct {
	Schema int `json:"schema"`
	// Time of the answer.
	Time metav1.Time `json:"time"`
	// ClockNotSet says that the node's clock cannot be right: nobody has set it yet.
	ClockNotSet bool   `json:"clockNotSet,omitempty"`
	Node        string `json:"node,omitempty"`
	// AgentVersion and BootID are the agent's and the node's; Uptime is the agent's, in
	// seconds.
	AgentVersion  string  `json:"agentVersion,omitempty"`
	BootID        string  `json:"bootID,omitempty"`
	UptimeSeconds float64 `json:"uptimeSeconds"`
	// Source is Runtime, or Memory while the runtime has not been looked at.
	Source string `json:"source"`
	// WishHeard is false while nobody has said what this node should hold.
	WishHeard bool `json:"wishHeard"`
	// ObservedGeneration is that of the NodeImageCache that the agent works on.
	ObservedGeneration int64   `json:"observedGeneration,omitempty"`
	Summary            Summary `json:"summary"`
	// Images that are wished or being removed, sorted by name.
	Images    []Image                   `json:"images"`
	Runtime   Runtime                   `json:"runtime"`
	Platform  string                    `json:"platform,omitempty"`
	Disk      *v1alpha1.DiskStatus      `json:"disk,omitempty"`
	APIServer *APIServer                `json:"apiServer,omitempty"`
	Links     []v1alpha1.RegistryStatus `json:"registries,omitempty"`
	Store     *Store                    `json:"store,omitempty"`
	// Conditions are those of the NodeImageCache: Ready, and what is the matter.
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	Counters   Counters           `json:"counters"`
}

// Summary counts images by phase.
type Summary struct {
	// Wished are all that should be there.
	Wished   int `json:"wished"`
	Cached   int `json:"cached"`
	Pulling  int `json:"pulling"`
	Pending  int `json:"pending"`
	Failed   int `json:"failed"`
	Removing int `json:"removing"`
	// BytesPerSecond that come in now.
	BytesPerSecond int64 `json:"bytesPerSecond"`
}

// Image is one image, with what only the node itself knows at any moment.
type Image struct {
	v1alpha1.NodeImageStatus `json:",inline"`
	// BytesPerSecond of the last half minute, while phase is Pulling.
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// SecondsLeft at that rate; absent while it is not known.
	SecondsLeft *int64 `json:"secondsLeft,omitempty"`
	// RetryInSeconds is when the image is tried again; absent while nothing is planned.
	RetryInSeconds *int64 `json:"retryInSeconds,omitempty"`
}

// Runtime is what keeps the images.
type Runtime struct {
	v1alpha1.RuntimeInfo `json:",inline"`
	// Error says why the runtime did not answer when it was asked last.
	Error string `json:"error,omitempty"`
}

// APIServer is how the agent's link to the API server is.
type APIServer struct {
	// Reachable is True, False or Unknown: of the last request.
	Reachable metav1.ConditionStatus `json:"reachable"`
	// HeardSecondsAgo is how long ago it answered anything; absent when it never did since
	// the agent was started.
	HeardSecondsAgo *float64 `json:"heardSecondsAgo,omitempty"`
	// Error of the last request, where that had no answer.
	Error string `json:"error,omitempty"`
}

// Store is what the agent's memory cost since the agent was started.
type Store struct {
	// Commits are writes that reached the disk, BytesWritten what they handed to it.
	Commits      uint64 `json:"commits"`
	BytesWritten uint64 `json:"bytesWritten"`
	// SizeBytes of the file now.
	SizeBytes int64 `json:"sizeBytes"`
}

// Counters count since the agent was started.
type Counters struct {
	// BytesFetched by attempts to bring images in, as far as the driver tells.
	BytesFetched int64 `json:"bytesFetched"`
	// Attempts that ended, by reason; Succeeded for those that brought the image in.
	Attempts map[string]int64 `json:"attempts,omitempty"`
	// Passes are how often runtime and wish were compared.
	Passes int64 `json:"passes"`
}

// Succeeded is the reason under which attempts are counted that brought an image in.
const Succeeded = "Succeeded"

// Count fills in the summary from the images.
func (s *Status) Count() {
	s.Summary = Summary{}
	for i := range s.Images {
		s.Summary.BytesPerSecond += s.Images[i].BytesPerSecond
		switch s.Images[i].Phase {
		case v1alpha1.PhaseCached:
			s.Summary.Cached++
		case v1alpha1.PhasePulling:
			s.Summary.Pulling++
		case v1alpha1.PhaseFailed:
			s.Summary.Failed++
		case v1alpha1.PhaseRemoving:
			s.Summary.Removing++
		default:
			s.Summary.Pending++
		}
	}
	s.Summary.Wished = len(s.Images) - s.Summary.Removing
}

// Whole says whether every wished image is there, as seen and not only remembered.
func (s *Status) Whole() bool {
	return s.Source == FromRuntime && s.WishHeard && s.Summary.Cached == s.Summary.Wished
}

// seconds gives a time to come or past as whole seconds, for a field that may be absent.
func seconds(d time.Duration) *int64 { return new(int64(d.Round(time.Second) / time.Second)) }

// RetryIn sets when the image is tried again.
func (i *Image) RetryIn(d time.Duration) { i.RetryInSeconds = seconds(max(d, 0)) }

// Rate sets how fast the image comes in, in bytes per second, and how long that takes.
func (i *Image) Rate(perSecond float64) {
	i.BytesPerSecond = int64(math.Round(perSecond))
	if left := i.Size - i.BytesPulled; i.BytesPerSecond > 0 && i.Size > 0 && left >= 0 {
		i.SecondsLeft = new(left / i.BytesPerSecond)
	}
}
