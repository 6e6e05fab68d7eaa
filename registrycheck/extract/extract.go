package extract

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Limits of what is read.
const (
	// MaxFile is the longest file, or standard input, in bytes: a chart of thousands of
	// objects has a few MiB.
	MaxFile = 64 << 20
	// MaxDocument is the longest document between two lines ---, in bytes. An API server
	// takes 3 MiB; a List of what it holds is longer.
	MaxDocument = 16 << 20
	// MaxNodes is how many values one document may have, each alias counted with all
	// that it stands for.
	MaxNodes = 1_000_000
	// maxDepth is how deep they may be nested.
	maxDepth = 100
)

// Use is what an image is for.
type Use string

// Uses.
const (
	Container          Use = "container"
	InitContainer      Use = "initContainer"
	EphemeralContainer Use = "ephemeralContainer"
	// Volume is an image volume: its platform does not matter to a runtime, and it may
	// be an artifact.
	Volume Use = "volume"
	// Cache is an entry of an ImageCache.
	Cache Use = "imageCache"
	// Reference is an image that was named by itself.
	Reference Use = "reference"
)

// Source says where an image was found.
type Source struct {
	// File is the path as it was reached, "-" for standard input, "" where the object
	// comes from a cluster.
	File string `json:"file,omitempty"`
	// Line counts from 1; 0 where there is no file.
	Line int `json:"line,omitempty"`
	// Template is the chart's file of which helm made the document.
	Template string `json:"template,omitempty"`
	// Kind, Namespace and Name are those of the object.
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Field is the path in the object: spec.template.spec.containers[0].image.
	Field string `json:"field,omitempty"`
}

// String gives "shop.yaml:12 Deployment retail/pos spec.template.spec.containers[0].image".
func (s Source) String() string {
	var parts []string
	if s.File != "" {
		place := shown(s.File)
		if s.Line > 0 {
			place = fmt.Sprintf("%s:%d", place, s.Line)
		}
		parts = append(parts, place)
	}
	if object := s.Object(); object != "" {
		parts = append(parts, object)
	}
	if s.Field != "" {
		parts = append(parts, s.Field)
	}
	return strings.Join(parts, " ")
}

// shown gives the name of a file as people are told it.
func shown(file string) string {
	if file == Stdin {
		return "stdin"
	}
	return file
}

// Object gives "Deployment retail/pos".
func (s Source) Object() string {
	name := s.Name
	if s.Namespace != "" {
		name = s.Namespace + "/" + name
	}
	return strings.TrimSpace(s.Kind + " " + name)
}

// Finding is one place that names an image.
type Finding struct {
	// Image is the reference as written.
	Image  string
	Use    Use
	Source Source
	// PullSecrets are the names of the pod's, or the ImageCache's, pull Secrets.
	PullSecrets []string
	// ServiceAccount is that of the pod, "" for default. Its pull Secrets count where
	// the pod has none. Only pods have one.
	ServiceAccount string
	// Nodes says on which nodes it may run.
	Nodes Nodes
}

// Nodes is what a pod, or a list of an ImageCache, says about its nodes.
type Nodes struct {
	// Selector are labels that a node must have.
	Selector map[string]string
	// Affinity is the required node affinity, nil without.
	Affinity *corev1.NodeSelector
	// Tolerations are those of a pod.
	Tolerations []corev1.Toleration
	// NodeName is the one node of a pod that has been placed.
	NodeName string
	// OS is the pod's spec.os.name.
	OS string
	// Pod says that taints count: ImageCaches go to tainted nodes too.
	Pod bool
	// Daemon says that the pods are those of a DaemonSet.
	Daemon bool
}

// Note is about an image that will not be pulled, or about input that was passed over.
type Note struct {
	Source  Source
	Message string
}

// String gives the source and the message.
func (n Note) String() string { return n.Source.String() + ": " + n.Message }

// InputError says what could not be read, and where.
type InputError struct {
	File string
	Line int // 0 for the file as a whole
	Err  error
}

// Error begins with file and line, as compilers do.
func (e *InputError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", shown(e.File), e.Line, e.Err)
	}
	return fmt.Sprintf("%s: %v", shown(e.File), e.Err)
}

// Unwrap gives the cause.
func (e *InputError) Unwrap() error { return e.Err }

// Inputs is what was found.
type Inputs struct {
	Findings []Finding
	// Secrets are pull Secrets that stand among the manifests.
	Secrets []corev1.Secret
	// ServiceAccounts are those that stand among the manifests.
	ServiceAccounts []corev1.ServiceAccount
	// Locks are the documents of kind ImageLock, as JSON.
	Locks []Lock
	Notes []Note
	// Errors are *InputErrors.
	Errors []error
	// Objects is how many objects were read.
	Objects int
}

// Lock is a lock file that stands among the manifests.
type Lock struct {
	Source Source
	JSON   []byte
}
