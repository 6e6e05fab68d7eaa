package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeImageCache is one node's share of all ImageCaches: what it should hold (spec,
// written by the controller) and what it does hold (status, written by the node's agent).
// It stands in the namespace edgecache-system, is named as the Node and owned by it.
// Users read it and do not edit it.
//
// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=nic,categories=edgecache
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cached",type=string,JSONPath=`.status.summary.cached`,description="Images held, of all images that the node should hold"
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.summary.failed`
// +kubebuilder:printcolumn:name="Runtime",type=string,JSONPath=`.status.runtime.name`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.summary.available`,description="Free disk space where the images are kept"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Agent",type=string,priority=1,JSONPath=`.status.agentVersion`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type NodeImageCache struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata. The name is the name of the Node.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the node should hold. Written by the controller only.
	// +optional
	Spec NodeImageCacheSpec `json:"spec,omitempty"`
	// status is what the node holds. Written by the node's agent only.
	// +optional
	Status NodeImageCacheStatus `json:"status,omitempty"`
}

// NodeImageCacheList is a list of NodeImageCaches.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type NodeImageCacheList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeImageCache `json:"items"`
}

// NodeImageCacheSpec is what one node should hold. An image that stands neither in images
// nor in remove is none of the agent's business: it is left as it is.
type NodeImageCacheSpec struct {
	// nodeUID is the UID of the Node for which the controller worked out this spec.
	// Empty until it did: an agent that remembers images from before then takes the
	// wish for unknown, not for empty, and changes nothing.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	NodeUID string `json:"nodeUID,omitempty"`

	// images are what the node should hold, sorted by name, at most 1,000.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Images []NodeImage `json:"images,omitempty"`

	// credentials are pull credentials, each sealed to the key that the node's status
	// publishes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Credentials []SealedCredential `json:"credentials,omitempty"`

	// remove are the images that the node should give up. An entry leaves when the
	// agent reports it gone, or when the image is wanted again.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2000
	Remove []RemoveImage `json:"remove,omitempty"`
}

// NodeImage is one image that a node should hold.
type NodeImage struct {
	// name is the canonical reference, under which pods find the image.
	// +required
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`
	// digest is what the name stands for. Empty while resolve is Node and no node of the
	// site has found a digest yet: what the node holds under the name stays as it is.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest,omitempty"`
	// resolve is Node where the agents of the site turn the tag into a digest: each asks
	// its registry and reports what it found. Absent means that the controller does.
	// +optional
	// +kubebuilder:validation:Enum=Controller;Node
	Resolve ResolveMode `json:"resolve,omitempty"`
	// resolveEvery is how often the agent asks the registry again while resolve is Node.
	// Absent means never.
	// +optional
	ResolveEvery *metav1.Duration `json:"resolveEvery,omitempty"`
	// size is what the node has to download at most, in bytes; 0 when unknown.
	// +optional
	Size int64 `json:"size,omitempty"`
	// pin is Never where the image is not to be shielded from garbage collection.
	// Absent means Always.
	// +optional
	// +kubebuilder:validation:Enum=Always;Never
	Pin PinMode `json:"pin,omitempty"`
	// keepPrevious is how many earlier digests of the name stay. Absent means 1.
	// +optional
	KeepPrevious *int32 `json:"keepPrevious,omitempty"`
	// priority: higher is pulled first and given up last.
	// +optional
	Priority int32 `json:"priority,omitempty"`
	// owners are the ImageCaches, as namespace/name, that ask for the image here, and
	// sandbox-image where it is the image of the node's pod sandboxes, which nobody has
	// to ask for. The list may be cut short to keep the object small.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Owners []string `json:"owners,omitempty"`
	// leavesAt is set while no ImageCache selects the node for the image any more because
	// the node's labels changed: when the image is removed, unless they change back.
	// +optional
	LeavesAt *metav1.Time `json:"leavesAt,omitempty"`
	// credentialIDs name the entries of credentials to pull with, in order.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	CredentialIDs []string `json:"credentialIDs,omitempty"`
	// refreshToken changes when the agent should ask the registry again at once, where
	// resolve is Node. It comes from the annotation edgecache.dev/requestedAt.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	RefreshToken string `json:"refreshToken,omitempty"`
}

// SealedCredential is one pull credential that only this node can open.
type SealedCredential struct {
	// id names the credential within this object.
	// +required
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id"`
	// match is the registry, port and path prefix that the credential is for.
	// +required
	// +kubebuilder:validation:MaxLength=512
	Match string `json:"match"`
	// keyID is the id of the key, from the node's status, it is sealed to.
	// +required
	// +kubebuilder:validation:MaxLength=64
	KeyID string `json:"keyID"`
	// sourceVersion changes when the Secret behind it does.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	SourceVersion string `json:"sourceVersion,omitempty"`
	// sealed is the credential with its match and the node's UID, sealed with age.
	// +required
	// +kubebuilder:validation:MaxLength=16384
	Sealed []byte `json:"sealed"`
}

// RemoveImage is one image that a node should give up.
type RemoveImage struct {
	// name is the canonical reference.
	// +required
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`
	// digest is what the name stood for. A name that now stands for another digest is
	// left alone.
	// +required
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest"`
	// since is when no ImageCache asked for the image here any more.
	// +required
	Since metav1.Time `json:"since"`
}

// NodeImageCacheStatus is what one node holds, as its agent last could report.
type NodeImageCacheStatus struct {
	// observedGeneration is the metadata.generation whose spec the agent works on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// summary is the status in words, for table output.
	// +optional
	Summary NodeImageCacheSummary `json:"summary,omitempty"`

	// images has one entry for each of spec.images, and for each of spec.remove that
	// is not gone yet, sorted by name.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=3000
	Images []NodeImageStatus `json:"images,omitempty"`

	// otherImages are images that the runtime holds and no ImageCache asked for,
	// largest first, cut short to keep the object small.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=500
	OtherImages []OtherImage `json:"otherImages,omitempty"`

	// runtime says what keeps the images.
	// +optional
	Runtime RuntimeInfo `json:"runtime,omitempty"`

	// platform of the images that the node runs, such as linux/arm/v7.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Platform string `json:"platform,omitempty"`

	// disk is the file system where the images are kept.
	// +optional
	Disk *DiskStatus `json:"disk,omitempty"`

	// registries says how the node's link to each registry is, as far as images come from
	// it. It is told with what else there is to tell, at most once a minute.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Registries []RegistryStatus `json:"registries,omitempty"`

	// unpackBytesPerSecond is how fast this node unpacks compressed layers, measured where
	// the agent has them unpacked. Absent before it did.
	// +optional
	UnpackBytesPerSecond int64 `json:"unpackBytesPerSecond,omitempty"`

	// bootID of the node, new at each boot.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	BootID string `json:"bootID,omitempty"`

	// agentVersion is the version of the agent that wrote this status.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	AgentVersion string `json:"agentVersion,omitempty"`

	// heartbeat says what shows that the agent is there. Lease, or absent: its own Lease in
	// this namespace. Node: the Ready condition of its Node, as it goes by the kubelet's
	// identity, which may have no such Lease.
	// +optional
	// +kubebuilder:validation:Enum=Lease;Node
	Heartbeat Heartbeat `json:"heartbeat,omitempty"`

	// key is what credentials for this node are sealed to.
	// +optional
	Key *NodeKey `json:"key,omitempty"`

	// conditions are Ready, and Degraded while it applies.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Heartbeat is what shows that an agent is there.
type Heartbeat string

// Heartbeats.
const (
	HeartbeatLease Heartbeat = "Lease"
	HeartbeatNode  Heartbeat = "Node"
)

// NodeImageCacheSummary is the status in words, for table output.
type NodeImageCacheSummary struct {
	// cached is "images held / images wished for", such as "3/3".
	// +optional
	Cached string `json:"cached,omitempty"`
	// failed is the number of images that failed and are tried again.
	// +optional
	Failed int32 `json:"failed"`
	// available is the free disk space where the images are kept, such as "12 GiB".
	// +optional
	Available string `json:"available,omitempty"`
}

// ImagePhase is how far one image is on one node.
type ImagePhase string

// Image phases.
const (
	// PhasePending: waiting for its turn.
	PhasePending ImagePhase = "Pending"
	// PhasePulling: bytes are coming in, or being unpacked.
	PhasePulling ImagePhase = "Pulling"
	// PhaseCached: complete under its name and its digest; pods start from it offline.
	PhaseCached ImagePhase = "Cached"
	// PhaseFailed: the last attempt failed; it is tried again.
	PhaseFailed ImagePhase = "Failed"
	// PhaseRemoving: to be given up, and not gone yet.
	PhaseRemoving ImagePhase = "Removing"
)

// NodeImageStatus is one image on one node.
type NodeImageStatus struct {
	// name is the canonical reference.
	// +required
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`
	// digest is the wished digest that this entry is about. Empty while the spec names none.
	// +required
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest"`
	// resolved is what the agent found when it asked the registry for the tag, where the
	// spec asks for that.
	// +optional
	Resolved *ResolvedTag `json:"resolved,omitempty"`
	// current is the digest that the name stands for on the node, where it is not the
	// wished one: pods that use the name start from it.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	Current string `json:"current,omitempty"`
	// phase is Pending, Pulling, Cached, Failed or Removing.
	// +required
	// +kubebuilder:validation:Enum=Pending;Pulling;Cached;Failed;Removing
	Phase ImagePhase `json:"phase"`
	// size is the bytes of this node's platform, compressed, once known.
	// +optional
	Size int64 `json:"size,omitempty"`
	// bytesPulled is how many of them are on the node, while phase is not Cached.
	// +optional
	BytesPulled int64 `json:"bytesPulled,omitempty"`
	// reason is a CamelCase word for why the phase is Failed, or what Pending or Removing
	// waits for.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// message says what is wrong; cut short to keep the object small.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// attempts counts the failed attempts since the last success or change of digest.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`
	// since is when the image entered this phase, or began to fail. Absent for Cached.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}

// ResolvedTag is what an agent found when it asked a registry for a tag.
type ResolvedTag struct {
	// digest that the registry gave. Empty when it gave none, or what it gave is outdated:
	// another digest is wished since.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest,omitempty"`
	// refreshToken is the one of the spec that was answered last. Without a digest it may be
	// the one that the node found beside its first digest, and left to the others.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	RefreshToken string `json:"refreshToken,omitempty"`
	// newer is true where the registry gave another digest than the wished one, and was
	// asked while that was wished.
	// +optional
	Newer bool `json:"newer,omitempty"`
	// reason is a CamelCase word for why the registry gave no answer to the refresh token
	// of the spec. It is asked again.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
}

// OtherImage is an image that the runtime holds and no ImageCache asked for.
type OtherImage struct {
	// digest that the names stand for.
	// +required
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest"`
	// names are at most 2 of its references.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	Names []string `json:"names,omitempty"`
	// size in bytes, as the runtime reports it.
	// +optional
	Size int64 `json:"size,omitempty"`
}

// RuntimeInfo says what keeps a node's images.
type RuntimeInfo struct {
	// name of the container runtime, such as containerd; layout where there is none.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name,omitempty"`
	// version of the runtime.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`
	// snapshotter that unpacked images are kept in.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Snapshotter string `json:"snapshotter,omitempty"`
	// capabilities of the driver: resume, progress, limit, name-by-digest, pin.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=32
	Capabilities []string `json:"capabilities,omitempty"`

	// sandboxImage is the image that the runtime makes pod sandboxes of, as canonical
	// reference: without it no pod starts. Absent while the runtime does not tell.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	SandboxImage string `json:"sandboxImage,omitempty"`
}

// DiskStatus is a file system, in bytes.
type DiskStatus struct {
	// capacity of the file system.
	Capacity int64 `json:"capacity"`
	// available to the agent.
	Available int64 `json:"available"`
	// reserve that pulls leave free.
	// +optional
	Reserve int64 `json:"reserve,omitempty"`
}

// LinkState is how a link is.
type LinkState string

// RegistryStatus is a node's link to one registry.
type RegistryStatus struct {
	// host and port of the registry.
	// +required
	// +kubebuilder:validation:MaxLength=255
	Host string `json:"host"`
	// reachable is True, False or Unknown. It is True also while the link comes and goes.
	// +required
	// +kubebuilder:validation:Enum=True;False;Unknown
	Reachable metav1.ConditionStatus `json:"reachable"`
	// state is Up, Down, Flapping (it comes and goes) or Unknown.
	// +optional
	// +kubebuilder:validation:Enum=Up;Down;Flapping;Unknown
	State LinkState `json:"state,omitempty"`
	// since is when state last changed.
	// +optional
	Since metav1.Time `json:"since,omitempty"`
	// bytesPerSecond is how fast blobs came in lately.
	// +optional
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
}

// NodeKey is a public key of a node.
type NodeKey struct {
	// id is new for each key.
	// +required
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id"`
	// recipient is the public key, an age X25519 recipient.
	// +required
	// +kubebuilder:validation:MaxLength=128
	Recipient string `json:"recipient"`
}
