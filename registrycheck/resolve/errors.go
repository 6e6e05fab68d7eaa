package resolve

import (
	"fmt"
	"time"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/brief"
)

// Error says why an image could not be looked up and what that means for pulling it.
type Error struct {
	// Verdict is NotPullable, when the image or the rights are wrong and waiting does
	// not help, or Inconclusive, when there was no answer and it is worth trying again.
	Verdict v1alpha1.Verdict
	// Reason is one of v1alpha1's NotFound, Unauthorized, RateLimited, RegistryError,
	// NetworkError, TLSError, DigestMismatch, PlatformMissing, InvalidReference and
	// InvalidImage.
	Reason string
	// Host is the one that failed: a registry, mirror, token server or blob store. Empty
	// for InvalidReference.
	Host string
	// Endpoint is the registry or mirror that was asked, which need not be the Host.
	Endpoint string
	// URL is the request that failed, or the one for the reference where no single
	// request did; without user-info and query. Empty for InvalidReference.
	URL string
	// RetryAfter is how long the registry asks to wait, 0 to 24h; 0 when it said
	// nothing. Nothing was waited for.
	RetryAfter time.Duration
	// Message says what is wrong and what to do, in at most 512 bytes.
	Message string
	// Problem and Fix are the parts of Message: what is wrong, and what to do, which may
	// be empty.
	Problem, Fix string
	// Err is the cause, for errors.Is and errors.AsType; its text is safe to print.
	Err error

	// mirror says that a mirror was asked, and not the registry itself.
	mirror bool
}

var _ error = (*Error)(nil)

func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Check gives the error as it stands in the status of an ImageCache, without its time.
func (e *Error) Check() v1alpha1.ImageCheck {
	return v1alpha1.ImageCheck{Verdict: e.Verdict, Reason: e.Reason, Message: e.Message}
}

// maxMessage is the longest message of an ImageCheck, in bytes.
const maxMessage = 512

// cut shortens a message to what a status holds.
func cut(s string) string { return brief.Text(s, maxMessage) }

// word makes the message of its parts.
func (e *Error) word() {
	e.Message = e.Problem
	if e.Fix != "" {
		e.Message = cut(e.Problem + ": " + e.Fix)
	}
}

// judgement is what a failure means, and what to do about it.
type judgement struct {
	verdict v1alpha1.Verdict
	reason  string
	host    string
	todo    string // may be empty
}

// because makes the Error, whose message is what happened and what to do.
func (j judgement) because(format string, args ...any) *Error {
	e := &Error{Verdict: j.verdict, Reason: j.reason, Host: j.host, Problem: cut(fmt.Sprintf(format, args...)), Fix: j.todo}
	e.word()
	return e
}
