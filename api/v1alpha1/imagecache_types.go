package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ImageCache asks for container images to be kept on nodes: pulled ahead of need, kept
// there while the network is away, refreshed and removed as asked. Any number of
// ImageCaches may name the same image and the same nodes; an image stays on a node as
// long as one of them asks for it there.
//
// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=ic,categories=edgecache
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.summary.ready`,description="Reachable nodes that hold every image, of all selected nodes"
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.nodes.failed`,description="Nodes on which some image failed and is being tried again"
// +kubebuilder:printcolumn:name="Unreachable",type=integer,JSONPath=`.status.nodes.unreachable`,description="Nodes that are dark; their last known state is kept"
// +kubebuilder:printcolumn:name="Pullable",type=string,JSONPath=`.status.conditions[?(@.type=="Pullable")].status`,description="Whether every image was found in its registry"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Images",type=integer,priority=1,JSONPath=`.status.summary.images`,description="Distinct images"
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type ImageCache struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which images to keep on which nodes, and how.
	// +required
	Spec ImageCacheSpec `json:"spec"`
	// status says how far the fleet is. Written by the controller.
	// +optional
	Status ImageCacheStatus `json:"status,omitempty"`
}

// ImageCacheList is a list of ImageCaches.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type ImageCacheList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ImageCache `json:"items"`
}

// ImageCacheSpec says which images to keep on which nodes, and how. Everything in it may
// be edited at any time. What an edit no longer asks for is removed from the nodes it
// left, unless another ImageCache still asks for it there.
//
// +kubebuilder:validation:XValidation:rule="self.cacheSpec.map(l, size(l.images)).sum() <= 1000",message="an ImageCache may name at most 1000 images in all its lists together: split it into several ImageCaches"
type ImageCacheSpec struct {
	// cacheSpec is 1 to 64 lists of images, each with the nodes to keep them on. An
	// image may stand in several lists. All lists together name at most 1,000 images.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	CacheSpec []CacheSpecImages `json:"cacheSpec"`

	// imagePullSecrets are Secrets of type kubernetes.io/dockerconfigjson (or
	// kubernetes.io/dockercfg) in the namespace of this ImageCache, at most 16. The
	// controller reads them to resolve and check the images.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// imagePullPolicy says when a tag is looked up again. IfNotPresent: once, and again
	// when this spec changes or a refresh is asked for. Always: at every refresh, too.
	// Every node gets the digest found, so that the whole fleet runs the same image
	// under one tag. References by digest are never looked up again. Default, as in
	// pods: Always for images with the tag latest or none, IfNotPresent for others.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent
	ImagePullPolicy PullPolicy `json:"imagePullPolicy,omitempty"`

	// resolve says who looks up tags. Controller (default): the controller, once for
	// the fleet. Node: the agents, for registries that only the site can reach; the
	// first digest found in a site (node label edgecache.dev/site, else
	// topology.kubernetes.io/zone, else each node for itself) is kept for that site until
	// a refresh finds another. The controller then asks no registry and checks nothing
	// ahead. Where an ImageCache with Controller wants the same image on a node, its
	// digest counts there.
	// +optional
	// +kubebuilder:default=Controller
	// +kubebuilder:validation:Enum=Controller;Node
	Resolve ResolveMode `json:"resolve,omitempty"`

	// refreshInterval is the time between two refreshes, as a duration such as 15m or
	// 1h30m: at least 10s, default 15m. 0s means no periodic refresh. Images that a
	// node lost come back at once and do not wait for a refresh.
	// +optional
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9.]+(ms|s|m|h))+$') || duration(self) == duration('0s') || duration(self) >= duration('10s')",message="refreshInterval must be 0s (no periodic refresh) or at least 10s"
	RefreshInterval *metav1.Duration `json:"refreshInterval,omitempty"`

	// state is what to do with the images. Cached (default): pull and keep them.
	// Suspended: change nothing; nodes keep what they have. Purged: remove the images
	// from all nodes and keep this object; set Cached to pull them again.
	// +optional
	// +kubebuilder:default=Cached
	// +kubebuilder:validation:Enum=Cached;Suspended;Purged
	State CacheState `json:"state,omitempty"`

	// precheck says what to do with an image that its registry says cannot be pulled.
	// Enforce (default): hold it back and say so in the Pullable condition. Warn: say
	// so and go on. Off: do not check ahead.
	// +optional
	// +kubebuilder:default=Enforce
	// +kubebuilder:validation:Enum=Enforce;Warn;Off
	Precheck PrecheckMode `json:"precheck,omitempty"`

	// pin says whether the images are shielded from the kubelet's image garbage
	// collection. Always (default) or Never. Images that are collected nevertheless
	// come back. Where several ImageCaches want an image on a node, Always wins.
	// +optional
	// +kubebuilder:default=Always
	// +kubebuilder:validation:Enum=Always;Never
	Pin PinMode `json:"pin,omitempty"`

	// keepPrevious is how many earlier digests of a tag a node keeps beside the wanted
	// one, for a quick way back: 0 to 3, default 1. The highest of several ImageCaches
	// wins.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3
	KeepPrevious *int32 `json:"keepPrevious,omitempty"`

	// priority orders the images of a node: higher is pulled first and given up last
	// when the disk is full. -1000 to 1000, default 0. The highest of several
	// ImageCaches wins.
	// +optional
	// +kubebuilder:validation:Minimum=-1000
	// +kubebuilder:validation:Maximum=1000
	Priority int32 `json:"priority,omitempty"`

	// deletionPolicy is what deleting this object does on the nodes. Retain (default):
	// the images stay and are no longer looked after. Remove: they are removed, on
	// nodes that are offline when they return; the deletion does not wait for them.
	// +optional
	// +kubebuilder:default=Retain
	// +kubebuilder:validation:Enum=Retain;Remove
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// rollout spreads a change over the fleet. Absent: all nodes at once.
	// +optional
	Rollout *Rollout `json:"rollout,omitempty"`
}

// CacheSpecImages is one list of images and the nodes to keep them on.
type CacheSpecImages struct {
	// images are 1 to 500 references, each written as for docker pull:
	// registry.example/app:v1 or registry.example/app@sha256:…, at most 255 characters.
	// Where both a tag and a digest are given the digest counts. A reference stands
	// only once in a list.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=500
	Images []ImageReference `json:"images"`

	// nodeSelector selects nodes by label: a node must have every label with exactly
	// this value. Empty or absent: all Linux nodes.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="nodeSelector keys must be label names: an optional DNS prefix and a slash, then up to 63 letters, digits, '-', '_' and '.'"
	NodeSelector map[string]LabelValue `json:"nodeSelector,omitempty"`

	// nodeAffinity selects nodes by expressions, as a pod's required node affinity
	// does. A node must match both nodeSelector and nodeAffinity.
	// +optional
	NodeAffinity *corev1.NodeSelector `json:"nodeAffinity,omitempty"`
}

// ImageReference is an image as users write it; package imageref parses it.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=255
// +kubebuilder:validation:Pattern=`^(?:(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::\w[\w.-]{0,127})?(?:@sha256:[a-f0-9]{64})?$`
// +kubebuilder:validation:XValidation:rule="!self.contains('://')",message="an image reference has no scheme: write registry.example/app:v1 instead of https://registry.example/app:v1"
// +kubebuilder:validation:XValidation:rule="!self.contains(' ')",message="an image reference has no spaces: give each image its own list item"
// +kubebuilder:validation:XValidation:rule="!self.matches('/[^:@]*[A-Z]')",message="the repository of an image reference is lowercase: write registry.example/app, not registry.example/App"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[A-Z][^/]*$')",message="the repository of an image reference is lowercase: write app:v1, not App:v1"
// +kubebuilder:validation:XValidation:rule="!self.endsWith(':') && !self.contains(':@')",message="the tag of the image reference is empty: write app:v1, or leave out the colon"
// +kubebuilder:validation:XValidation:rule="self.indexOf('@') < 0 || self.indexOf('@') == self.size() - 72",message="the digest of an image reference is sha256: and 64 lowercase hexadecimal digits"
type ImageReference string

// LabelValue is the value of a Kubernetes label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// PullPolicy says when a tag is looked up again.
type PullPolicy string

// Pull policies.
const (
	PullAlways       PullPolicy = "Always"
	PullIfNotPresent PullPolicy = "IfNotPresent"
)

// ResolveMode says who turns tags into digests.
type ResolveMode string

// Resolve modes.
const (
	ResolveController ResolveMode = "Controller"
	ResolveNode       ResolveMode = "Node"
)

// CacheState is what to do with the images of a cache.
type CacheState string

// Cache states.
const (
	StateCached    CacheState = "Cached"
	StateSuspended CacheState = "Suspended"
	StatePurged    CacheState = "Purged"
)

// PrecheckMode says how the check before a rollout acts.
type PrecheckMode string

// Precheck modes.
const (
	PrecheckEnforce PrecheckMode = "Enforce"
	PrecheckWarn    PrecheckMode = "Warn"
	PrecheckOff     PrecheckMode = "Off"
)

// PinMode says whether images are shielded from garbage collection.
type PinMode string

// Pin modes.
const (
	PinAlways PinMode = "Always"
	PinNever  PinMode = "Never"
)

// DeletionPolicy is what deleting an ImageCache does on the nodes.
type DeletionPolicy string

// Deletion policies.
const (
	DeletionRetain DeletionPolicy = "Retain"
	DeletionRemove DeletionPolicy = "Remove"
)

// Rollout spreads new images and new digests over the fleet. One node of each site (label
// edgecache.dev/site, else topology.kubernetes.io/zone) goes first; the others of the site
// follow when it succeeded or failed. Removals and changes of policy are not spread.
type Rollout struct {
	// maxConcurrentNodes is how many nodes may work on a change at the same time: a
	// number from 1 to 1000000, or a percentage of the selected nodes such as "10%".
	// Nodes that failed (they go on trying), unreachable nodes and nodes without an agent
	// do not count; the latter two get their turn when they are back. Default: all.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 1000000 : self.matches('^(100|[1-9][0-9]?)%$')",message="maxConcurrentNodes must be a number from 1 to 1000000 or a percentage from \"1%\" to \"100%\""
	MaxConcurrentNodes *intstr.IntOrString `json:"maxConcurrentNodes,omitempty"`

	// maxFailurePercent stops the rollout while more than this share of the reachable
	// nodes that had their turn are failing: 0 to 100, default 100 (never stop). The
	// condition Stalled says so.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxFailurePercent *int32 `json:"maxFailurePercent,omitempty"`
}
