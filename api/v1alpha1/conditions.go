package v1alpha1

// Condition types of ImageCache. Every condition carries observedGeneration.
const (
	// ConditionReady is True when every reachable selected node with an agent holds
	// every target digest. Unreachable nodes and nodes without an agent do not count,
	// so that waiting for it does not hang on dark nodes. Always present.
	ConditionReady = "Ready"
	// ConditionFullyCached is True when all selected nodes, reachable or not, are last
	// known to hold every target digest. Always present.
	ConditionFullyCached = "FullyCached"
	// ConditionReconciling is True while reachable nodes are still being brought to
	// the wished state (kstatus). Only present while True.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when nothing will change before a user acts; the
	// message says what to do (kstatus). Only present while True.
	ConditionStalled = "Stalled"
	// ConditionSealingDisabled is True when the ImageCache has pull secrets and they are not
	// sent to nodes. Only present while True.
	ConditionSealingDisabled = "SealingDisabled"
	// ConditionPullable is True when every image was found in its registry. Unknown while
	// a registry does not answer. Always present.
	ConditionPullable = "Pullable"
)

// Condition types of NodeImageCache.
const (
	// NodeConditionReady is True when the node holds every image it should hold. Unknown
	// while nobody has said which these are, or the container runtime was not looked at.
	NodeConditionReady = "Ready"
	// NodeConditionDegraded is True when the agent cannot do all that the spec asks:
	// a runtime that does not answer, a damaged store that was rebuilt.
	NodeConditionDegraded = "Degraded"
	// NodeConditionSettingsNotHonoured is True when a setting has no effect with the
	// node's container runtime, such as pin: Always with Docker. Only present while True.
	NodeConditionSettingsNotHonoured = "SettingsNotHonoured"
	// NodeConditionOfflineStartAtRisk is True when pods may not start from the images that
	// the node holds while no registry answers. Unknown while that cannot be told; absent
	// where no containers run.
	NodeConditionOfflineStartAtRisk = "OfflineStartAtRisk"
)

// Reasons of OfflineStartAtRisk, besides LazyContent.
const (
	ReasonNoRiskFound         = "NoRiskFound"         // nothing is known that speaks against it
	ReasonKubeletConfigUnread = "KubeletConfigUnread" // what the kubelet asks registries is not known
	ReasonCredentialsVerified = "CredentialsVerified" // the kubelet asks registries about images that are there
	ReasonSandboxImageMissing = "SandboxImageMissing" // the image of pod sandboxes is not on the node
	ReasonPullsNotSynced      = "PullsNotSynced"      // a power cut may damage what was pulled
)

// Reasons of ImageCache conditions.
const (
	ReasonAllCached        = "AllCached"        // every node that counts holds every image
	ReasonProgressing      = "Progressing"      // nodes are pulling
	ReasonImagesFailing    = "ImagesFailing"    // some node reports a failure and goes on trying
	ReasonNoNodesSelected  = "NoNodesSelected"  // the selectors match no Linux node
	ReasonNoNodeReachable  = "NoNodeReachable"  // nodes are selected, none is reachable with an agent
	ReasonNodesUnreachable = "NodesUnreachable" // the rest of the fleet is dark or without agent
	ReasonSuspended        = "Suspended"        // spec.state is Suspended
	ReasonPurged           = "Purged"           // spec.state is Purged and the images are gone
	ReasonPurging          = "Purging"          // spec.state is Purged, images are being removed
	ReasonWishUnknown      = "WishUnknown"      // nobody has said yet what the node is to hold
	ReasonUnresolved       = "Unresolved"       // a tag has no digest yet
	ReasonInvalidReference = "InvalidReference" // a reference does not parse
	ReasonNotPullable      = "NotPullable"      // the registry says no: image or rights are wrong
	ReasonInconclusive     = "Inconclusive"     // the registry did not answer: tried again
	ReasonAllPullable      = "AllPullable"      // every image was found
	ReasonNotChecked       = "NotChecked"       // nothing is looked up yet, or not by the controller (spec.resolve: Node)
	ReasonTooManyFailures  = "TooManyFailures"  // the rollout stopped: spec.rollout.maxFailurePercent
	ReasonNotAllowed       = "NotAllowed"       // a limit of the controller's settings refuses the spec
	ReasonPolicyMissing    = "PolicyMissing"    // the admission policy for agents is not in place
)

// Reasons of images on a node.
const (
	ReasonNotFound         = "NotFound"         // registry: no such manifest or blob
	ReasonUnauthorized     = "Unauthorized"     // registry: credentials missing or refused
	ReasonRateLimited      = "RateLimited"      // registry: too many requests
	ReasonRegistryError    = "RegistryError"    // registry: any other refusal
	ReasonNetworkError     = "NetworkError"     // registry not reached, connection lost
	ReasonTLSError         = "TLSError"         // certificate not trusted, or clock wrong
	ReasonInvalidImage     = "InvalidImage"     // malformed, not an image, or beyond the limits of runtimes
	ReasonDigestMismatch   = "DigestMismatch"   // bytes differ from the digest that was asked for
	ReasonPlatformMissing  = "PlatformMissing"  // the index has nothing for this node's platform
	ReasonRuntimeError     = "RuntimeError"     // the container runtime refused or failed
	ReasonInsufficientDisk = "InsufficientDisk" // the image does not fit under the reserve
	ReasonOutsideWindow    = "OutsideWindow"    // pulling waits for a window of the agent's settings
	ReasonInUse            = "InUse"            // removal waits: a container uses the image
	ReasonInternalError    = "InternalError"    // the controller could not ask: see the message
	ReasonNodeLimit        = "NodeLimit"        // the node is asked for more images than one node can be
	ReasonTagMoved         = "TagMoved"         // the registry's tag no longer has the frozen digest
	ReasonRuntimeCannot    = "RuntimeCannot"    // the node's container runtime has no such ability
	ReasonLazyContent      = "LazyContent"      // a snapshotter fetches the image's files only when they are read
	ReasonImageDamaged     = "ImageDamaged"     // what is on disk is not what the image says
)
