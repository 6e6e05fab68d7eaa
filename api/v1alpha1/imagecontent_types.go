package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ImageContent says what one digest consists of: its platforms and their layers. It is
// named after the digest, sha256-<hex>. Layer lists live here once per image, so that
// schedulers and tools can compare images without asking a registry.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=icontent,categories=edgecache
// +kubebuilder:printcolumn:name="Repository",type=string,JSONPath=`.repositories[0]`
// +kubebuilder:printcolumn:name="Platforms",type=string,JSONPath=`.platforms[*].architecture`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.platforms == oldSelf.platforms",message="platforms cannot change: a digest always stands for the same content"
type ImageContent struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata. The name is the digest with '-' for ':'.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// repositories are the repositories in which the digest was found, at most 32.
	// Entries are only added.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=255
	Repositories []string `json:"repositories,omitempty"`

	// platforms are the Linux platforms of the image, at most 32. One entry for an
	// image that is not an index. They never change.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Platforms []PlatformContent `json:"platforms"`
}

// ImageContentList is a list of ImageContents.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type ImageContentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ImageContent `json:"items"`
}

// PlatformContent is one platform of an image.
type PlatformContent struct {
	// os is the operating system, such as linux.
	// +required
	// +kubebuilder:validation:MaxLength=32
	OS string `json:"os"`
	// architecture is the processor architecture, such as amd64, arm64 or arm.
	// +required
	// +kubebuilder:validation:MaxLength=32
	Architecture string `json:"architecture"`
	// variant of the architecture, such as v7.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Variant string `json:"variant,omitempty"`
	// manifestDigest is the digest of this platform's manifest.
	// +required
	// +kubebuilder:validation:MaxLength=71
	ManifestDigest string `json:"manifestDigest"`
	// configDigest is the digest of the image configuration, CRI's image id.
	// +required
	// +kubebuilder:validation:MaxLength=71
	ConfigDigest string `json:"configDigest"`
	// size is what a node downloads, in bytes: manifest, configuration and layers.
	// +required
	Size int64 `json:"size"`
	// layers are the compressed layers, base first, at most 256.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Layers []Layer `json:"layers,omitempty"`
}

// Layer is one compressed layer.
type Layer struct {
	// digest of the compressed layer.
	// +required
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest"`
	// size of the compressed layer in bytes.
	// +required
	Size int64 `json:"size"`
}
