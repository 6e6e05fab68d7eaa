package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"edgecache.dev/api/v1alpha1"
)

// Reason says in one word why bytes did not come. Its values are the reasons of images on
// a node in api/v1alpha1.
type Reason string

// Reasons that this package gives.
const (
	NotFound         Reason = v1alpha1.ReasonNotFound
	Unauthorized     Reason = v1alpha1.ReasonUnauthorized
	RateLimited      Reason = v1alpha1.ReasonRateLimited
	RegistryError    Reason = v1alpha1.ReasonRegistryError
	NetworkError     Reason = v1alpha1.ReasonNetworkError
	TLSError         Reason = v1alpha1.ReasonTLSError
	DigestMismatch   Reason = v1alpha1.ReasonDigestMismatch
	PlatformMissing  Reason = v1alpha1.ReasonPlatformMissing
	RuntimeError     Reason = v1alpha1.ReasonRuntimeError     // the content store refused or is gone
	InsufficientDisk Reason = v1alpha1.ReasonInsufficientDisk // the content store is full
)

// Error says why bytes did not come. Its text and fields are safe to show: they contain
// no credential, token or URL.
type Error struct {
	Reason Reason
	// Host is the host and port that answered or was tried, "" where none is to blame.
	Host string
	// Status is the HTTP status of the answer, 0 when there was none.
	Status int
	// RetryAfter is what a registry that limits its clients asked for, 0 when it did not.
	RetryAfter time.Duration
	// Err is what happened. Never nil.
	Err error
}

// Error gives "registry.example: too many requests (HTTP 429)".
func (e *Error) Error() string {
	var b strings.Builder
	if e.Host != "" {
		b.WriteString(e.Host + ": ")
	}
	b.WriteString(e.Err.Error())
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	return b.String()
}

// Unwrap gives Err.
func (e *Error) Unwrap() error { return e.Err }

// Transient says whether the same call may succeed later with nothing changed but time:
// networks, clocks, full disks and busy registries recover; a missing image, refused
// credentials, wrong bytes or a missing platform need somebody.
func (e *Error) Transient() bool {
	switch e.Reason {
	case NetworkError, TLSError, RateLimited, RuntimeError, InsufficientDisk:
		return true
	case RegistryError:
		return passing(e.Status)
	}
	return false
}

// Transient says whether err may go away by itself. An error that this package does not
// know counts as transient: trying again is cheap, giving up is not.
func Transient(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Transient()
	}
	return true
}

// passing says whether an HTTP status speaks of the server's condition, not of the request.
func passing(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooEarly
}

// retryNow says whether an error is worth another connection within the same call, a few
// seconds later. A certificate or a rate limit does not change that fast.
func retryNow(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Reason == NetworkError || e.Reason == RegistryError && passing(e.Status))
}

// refuse is a permanent answer about content that a registry serves.
func refuse(format string, args ...any) error {
	return &Error{Reason: RegistryError, Err: fmt.Errorf(format, args...)}
}

// storeError wraps a failure of the content store. A cancelled context stays what it is.
func storeError(ctx context.Context, doing string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", doing, cause)
	}
	reason := RuntimeError
	// Over gRPC only the text of the error number arrives.
	if errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		reason = InsufficientDisk
	}
	return &Error{Reason: reason, Err: fmt.Errorf("%s: %w", doing, err)}
}
