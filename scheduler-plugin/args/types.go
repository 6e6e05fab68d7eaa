package args

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// OfflinePolicy says what becomes of nodes that cannot reach a registry which the pod needs.
type OfflinePolicy string

// Offline policies.
const (
	// OfflineIgnore treats them as all others.
	OfflineIgnore OfflinePolicy = "Ignore"
	// OfflinePenalize gives them the lowest score.
	OfflinePenalize OfflinePolicy = "Penalize"
	// OfflineEnforce refuses them, except for the pods of DaemonSets.
	OfflineEnforce OfflinePolicy = "Enforce"
)

// Uplink says who shares the link that images come over.
type Uplink string

// Uplinks.
const (
	// UplinkSite: all nodes of a site. What one of them pulls delays the others. While bytes are on their way, pods are
	// scheduled one by one instead of in batches, as each placement changes what other nodes offer.
	UplinkSite Uplink = "Site"
	// UplinkNode: each node has its own.
	UplinkNode Uplink = "Node"
)

// Events says which pods get an Event about their images.
type Events string

// Which Events.
const (
	// EventsAll: pods that start without a pull where elsewhere they would not, too.
	EventsAll Events = "All"
	// EventsCosts: only pods whose images have to come first, or cannot.
	EventsCosts Events = "Costs"
	// EventsOff: none.
	EventsOff Events = "Off"
)

// ImageCacheLocalityArgs configures the plugin. All fields are optional.
type ImageCacheLocalityArgs struct {
	metav1.TypeMeta `json:",inline"`

	// OfflinePolicy is Ignore, Penalize (default) or Enforce.
	OfflinePolicy OfflinePolicy `json:"offlinePolicy,omitempty"`
	// Uplink is Site (default) or Node. A node without a site has a link of its own.
	Uplink Uplink `json:"uplink,omitempty"`
	// MaxReadyTime scores 0, and so does everything above. Default 10m, 10s to 24h.
	MaxReadyTime metav1.Duration `json:"maxReadyTime,omitzero"`
	// EqualWithin is the difference of ready times that does not count. Default 2s, 100ms to 1m.
	EqualWithin metav1.Duration `json:"equalWithin,omitzero"`
	// FadeFromPercent is how much of a node's CPU or memory, the larger share, is requested with the pod when its score
	// begins to fade; at 100 percent nothing is left of it. Default 80, 0 to 100; 100 never fades.
	FadeFromPercent *int32 `json:"fadeFromPercent,omitempty"`
	// DefaultBytesPerSecond is how fast images come to nodes that did not measure it, where no other node of the site
	// or of the fleet did. Default 2500000 (20 Mbit/s), at least 1000.
	DefaultBytesPerSecond int64 `json:"defaultBytesPerSecond,omitempty"`
	// DefaultUnpackBytesPerSecond is how fast nodes unpack compressed layers where none measured it. Default 25000000,
	// at least 1000.
	DefaultUnpackBytesPerSecond int64 `json:"defaultUnpackBytesPerSecond,omitempty"`
	// Events is All (default), Costs or Off.
	Events Events `json:"events,omitempty"`
	// EventsPerMinute is how many of them are sent at most; the others are counted. Default 60, 1 to 6000.
	EventsPerMinute int32 `json:"eventsPerMinute,omitempty"`
}

// Default values.
const (
	DefaultMaxReadyTime         = 10 * time.Minute
	DefaultEqualWithin          = 2 * time.Second
	DefaultFadeFromPercent      = 80
	DefaultBytesPerSecond       = 2_500_000
	DefaultUnpackBytesPerSecond = 25_000_000
	DefaultEventsPerMinute      = 60
)

// SetDefaults fills in what is absent.
func SetDefaults(a *ImageCacheLocalityArgs) {
	setDefault(&a.OfflinePolicy, OfflinePenalize)
	setDefault(&a.Uplink, UplinkSite)
	setDefault(&a.MaxReadyTime.Duration, DefaultMaxReadyTime)
	setDefault(&a.EqualWithin.Duration, DefaultEqualWithin)
	setDefault(&a.DefaultBytesPerSecond, DefaultBytesPerSecond)
	setDefault(&a.DefaultUnpackBytesPerSecond, DefaultUnpackBytesPerSecond)
	setDefault(&a.Events, EventsAll)
	setDefault(&a.EventsPerMinute, DefaultEventsPerMinute)
	if a.FadeFromPercent == nil {
		a.FadeFromPercent = new(int32(DefaultFadeFromPercent))
	}
}

func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

// DeepCopy gives a copy that shares nothing with the original.
func (a *ImageCacheLocalityArgs) DeepCopy() *ImageCacheLocalityArgs {
	out := *a
	if a.FadeFromPercent != nil {
		out.FadeFromPercent = new(*a.FadeFromPercent)
	}
	return &out
}

// DeepCopyObject makes the arguments an API object.
func (a *ImageCacheLocalityArgs) DeepCopyObject() runtime.Object {
	if a == nil {
		return nil
	}
	return a.DeepCopy()
}
