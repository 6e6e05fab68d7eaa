package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ImageCacheStatus says how far the fleet is. Its size is bounded whatever the number of
// nodes: one entry per image and at most 20 failures.
type ImageCacheStatus struct {
	// observedGeneration is the newest metadata.generation whose images were all looked
	// up, with or without success.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, FullyCached, Pullable, and while they apply Reconciling,
	// Stalled and SealingDisabled.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// summary is the status in words, for table output.
	// +optional
	Summary ImageCacheSummary `json:"summary,omitempty"`

	// nodes counts the selected nodes by their state over all images.
	// +optional
	Nodes NodeCounts `json:"nodes,omitempty"`

	// images has one entry per distinct image, sorted by name.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Images []ImageStatus `json:"images,omitempty"`

	// failures are the newest 20 failures; failureCount is their true number.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Failures []ImageFailure `json:"failures,omitempty"`

	// failureCount is the number of pairs of image and node that are failing.
	// +optional
	FailureCount int32 `json:"failureCount,omitempty"`

	// lastHandledRefreshAt is the value of the annotation edgecache.dev/requestedAt
	// whose refresh was done last.
	// +optional
	LastHandledRefreshAt string `json:"lastHandledRefreshAt,omitempty"`
}

// ImageCacheSummary is the status in words, for table output.
type ImageCacheSummary struct {
	// ready is "nodes that hold every image / selected nodes", such as "120/128".
	// +optional
	Ready string `json:"ready,omitempty"`
	// images is the number of distinct images.
	// +optional
	Images int32 `json:"images,omitempty"`
}

// NodeCounts counts nodes. ready, updating, failed, unreachable and noAgent add up to
// selected: a node that is dark counts as unreachable whatever it last held.
type NodeCounts struct {
	// selected is the number of nodes that should hold the image.
	// +optional
	Selected int32 `json:"selected"`
	// ready is the number of reachable nodes that hold it.
	// +optional
	Ready int32 `json:"ready"`
	// updating is the number of reachable nodes that do not hold it yet.
	// +optional
	Updating int32 `json:"updating"`
	// failed is the number of reachable nodes on which it failed and is tried again.
	// +optional
	Failed int32 `json:"failed"`
	// unreachable is the number of nodes that are dark: neither is the Node Ready nor
	// did its agent renew its Lease.
	// +optional
	Unreachable int32 `json:"unreachable"`
	// noAgent is the number of Ready nodes that show no sign of an agent.
	// +optional
	NoAgent int32 `json:"noAgent"`
}

// ImageStatus is one image of an ImageCache.
type ImageStatus struct {
	// name is the canonical reference, such as docker.io/library/nginx:1.27.
	// +required
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`
	// digest is what the name stands for on every node of the fleet. Empty until it
	// was looked up, and while the sites do not agree where spec.resolve is Node.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest,omitempty"`
	// check is the outcome of looking the image up in its registry. Absent where
	// spec.resolve is Node: the controller asks no registry.
	// +optional
	Check *ImageCheck `json:"check,omitempty"`
	// sites sums up what the tag stands for in the sites of the selected nodes, where
	// spec.resolve is Node.
	// +optional
	Sites *ImageSites `json:"sites,omitempty"`
	// nodes counts the nodes that should hold this image.
	// +optional
	Nodes NodeCounts `json:"nodes"`
}

// ImageSites sums up what a tag stands for in the sites. A node that no label puts into a
// site is a site of its own.
type ImageSites struct {
	// sites is the number of sites with selected nodes.
	Sites int32 `json:"sites"`
	// resolved is the number of them that have a digest.
	Resolved int32 `json:"resolved"`
	// digests is the number of different digests that they have: more than 1 is drift
	// between sites.
	Digests int32 `json:"digests"`
	// drifted is the number of sites in which some node found another digest in its
	// registry than the one that is kept for the site. A refresh brings them together.
	// +optional
	Drifted int32 `json:"drifted,omitempty"`
}

// Verdict is the outcome of looking an image up in its registry.
type Verdict string

// Verdicts.
const (
	VerdictPullable     Verdict = "Pullable"     // found
	VerdictNotPullable  Verdict = "NotPullable"  // wrong image or rights: will not heal by waiting
	VerdictInconclusive Verdict = "Inconclusive" // registry, network or quota: tried again
)

// ImageCheck is the outcome of looking an image up in its registry.
type ImageCheck struct {
	// verdict is Pullable, NotPullable (the image or the rights are wrong; waiting
	// does not help) or Inconclusive (no answer; it is tried again).
	// +required
	// +kubebuilder:validation:Enum=Pullable;NotPullable;Inconclusive
	Verdict Verdict `json:"verdict"`
	// reason is a CamelCase word for what is wrong. Empty when Pullable.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// message says what is wrong and what to do.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
	// time is when the verdict last changed.
	// +optional
	Time metav1.Time `json:"time,omitempty"`
}

// ImageFailure is one image failing on one node.
type ImageFailure struct {
	// image is the canonical reference.
	// +required
	// +kubebuilder:validation:MaxLength=255
	Image string `json:"image"`
	// node is the name of the Node.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// reason is a CamelCase word for what is wrong.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// message is what the agent said.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
	// since is when the image began to fail there.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
}
