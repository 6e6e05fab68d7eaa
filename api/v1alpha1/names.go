package v1alpha1

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// SystemNamespace holds the NodeImageCaches, the agents' Leases and the controller's.
const SystemNamespace = "edgecache-system"

// Labels and annotations that users set.
const (
	// LabelSite on a Node names the site it stands in. Where it is absent the site is
	// the node's topology.kubernetes.io/zone.
	LabelSite = "edgecache.dev/site"
	// AnnotationRequestedAt on an ImageCache asks for a refresh each time its value
	// changes. The refresh is done when status.lastHandledRefreshAt equals the value.
	AnnotationRequestedAt = "edgecache.dev/requestedAt"
)

// Annotations and finalizers that the controller sets.
const (
	// AnnotationUnreferencedSince on an ImageContent is the RFC 3339 time since which
	// no ImageCache and no node has named its digest.
	AnnotationUnreferencedSince = "edgecache.dev/unreferenced-since"
	// FinalizerRemove holds a deleted ImageCache with deletionPolicy Remove until its
	// removals stand in the NodeImageCaches. It does not wait for the nodes.
	FinalizerRemove = "edgecache.dev/remove-images"
)

// OwnerSandboxImage stands among the owners of an image that a node holds because its
// runtime makes pod sandboxes of it. It is no namespace/name: no ImageCache has it.
const OwnerSandboxImage = "sandbox-image"

// ContentName gives the name of the ImageContent object for a digest: "sha256-<hex>". What
// is no digest, as an agent may report it, gives a name that no object has.
func ContentName(d digest.Digest) string {
	return strings.Replace(d.String(), ":", "-", 1)
}

// ContentDigest gives the digest that an ImageContent is named after.
func ContentDigest(name string) digest.Digest {
	return digest.Digest(strings.Replace(name, "-", ":", 1))
}

// AgentLeaseName gives the name of the Lease, in SystemNamespace, that the agent of a
// node renews. It is the node's name: agents may write no other.
func AgentLeaseName(node string) string { return node }
