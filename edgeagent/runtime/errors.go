package runtime

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
)

// Reason says in one word why an image is not what it should be. Its values are the
// reasons of images on a node in api/v1alpha1.
type Reason = fetch.Reason

// Reasons that only drivers give; the others are in package fetch.
const (
	TagMoved     Reason = v1alpha1.ReasonTagMoved
	LazyContent  Reason = v1alpha1.ReasonLazyContent
	ImageDamaged Reason = v1alpha1.ReasonImageDamaged
)

// Error is a failure of a driver that is not one of fetching.
type Error struct {
	Reason Reason
	Err    error // never nil
}

// Error gives the text of Err.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *Error) Unwrap() error { return e.Err }

// Failed gives the error for a call that the runtime refused or did not answer. One
// that carries a reason already keeps it.
func Failed(doing string, err error) error {
	_, ours := errors.AsType[*Error](err)
	_, fetching := errors.AsType[*fetch.Error](err)
	if ours || fetching {
		return fmt.Errorf("%s: %w", doing, err)
	}
	reason := fetch.RuntimeError
	// Over gRPC only the text of the error number arrives.
	if errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		reason = fetch.InsufficientDisk
	}
	return &Error{Reason: reason, Err: fmt.Errorf("%s: %w", doing, err)}
}

// NewTagMoved says that the registry's tag no longer is the digest that was asked for.
func NewTagMoved(name imageref.Reference, got, want digest.Digest) error {
	return &Error{Reason: TagMoved, Err: fmt.Errorf("tag %s moved: the registry has %s, want %s", name, got, want)}
}

// NameSharedError is returned by Remove where the runtime could only remove an image with
// all its names, and it has names that shall stay.
type NameSharedError struct {
	Name   imageref.Reference
	Others []imageref.Reference // the names that would have gone too, sorted
}

// Error names the other names, at most three.
func (e *NameSharedError) Error() string {
	var others []string
	for _, o := range e.Others[:min(3, len(e.Others))] {
		others = append(others, o.String())
	}
	return fmt.Sprintf("removing %s would remove %d other names of the same image: %s", e.Name, len(e.Others), strings.Join(others, ", "))
}

// ReasonOf gives the reason of an error of a driver: RuntimeError for one without.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	if e, ok := errors.AsType[*fetch.Error](err); ok {
		return e.Reason
	}
	return fetch.RuntimeError
}

// Transient says whether an error of a driver may go away by itself.
func Transient(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok && (e.Reason == TagMoved || e.Reason == LazyContent) {
		return false
	}
	return fetch.Transient(err)
}
