package access

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// BusyError is returned when a host asks to come back later: status 429, or 503 with
// Retry-After. Nothing was waited for.
type BusyError struct {
	// Scheme, Host and Path are those of the request that was answered so.
	Scheme, Host, Path string

	StatusCode int
	// RetryAfter is how long to wait, 0 to 24h. 0 means that the host did not say.
	RetryAfter time.Duration
	// Message is what the host said, scrubbed; it may be empty.
	Message string
}

func (e *BusyError) Error() string {
	s := fmt.Sprintf("%s answers %d %s", e.Host, e.StatusCode, http.StatusText(e.StatusCode))
	if e.RetryAfter > 0 {
		s += fmt.Sprintf(", retry after %s", e.RetryAfter)
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// StatusError is an answer to a request for a manifest or a blob that is not 200.
type StatusError struct {
	Method string
	// Scheme, Host and Path are those of the request that was answered so, after
	// redirects.
	Scheme, Host, Path string
	StatusCode         int
	// Codes are the registry's own, such as MANIFEST_UNKNOWN, at most 5; Message is its
	// text, scrubbed. Both are empty after HEAD.
	Codes   []string
	Message string
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s %s%s: %d %s", e.Method, e.Host, e.Path, e.StatusCode, http.StatusText(e.StatusCode))
	if len(e.Codes) > 0 {
		s += " " + strings.Join(e.Codes, " ")
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// LoginError is a refusal while logging in: by the registry's /v2/ or by the token
// server that it names.
type LoginError struct {
	// Scheme, Host and Path are those of the request that was refused; Path is /v2/ for
	// the registry itself.
	Scheme, Host, Path string
	StatusCode         int
	// Message is what the server said, scrubbed; it may be empty.
	Message string
	// Err is the library's error, safe to print.
	Err error
}

func (e *LoginError) Error() string {
	s := fmt.Sprintf("logging in at %s%s: %d %s", e.Host, e.Path, e.StatusCode, http.StatusText(e.StatusCode))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

func (e *LoginError) Unwrap() error { return e.Err }

// TokenServer says whether a token server refused, and not the registry itself.
func (e *LoginError) TokenServer() bool { return strings.TrimSuffix(e.Path, "/") != "/v2" }

// maxCodes is how many of the errors that a registry lists are repeated.
const maxCodes = 5

// TooLargeError is returned by reading an answer beyond MaxBodyBytes, or beyond the size
// that a stream was asked for.
type TooLargeError struct {
	Limit int64 // bytes
}

func (e *TooLargeError) Error() string { return fmt.Sprintf("answer is larger than %d bytes", e.Limit) }

// PlainHTTPError is returned instead of sending a request without TLS to a host for
// which the settings do not ask for that.
type PlainHTTPError struct {
	Host string
}

func (e *PlainHTTPError) Error() string {
	return fmt.Sprintf("plain HTTP to %s is not allowed by the registry settings", e.Host)
}

// RedirectError is returned instead of following a redirect.
type RedirectError struct {
	Host   string // where it leads
	Reason string
}

func (e *RedirectError) Error() string { return fmt.Sprintf("redirect to %s: %s", e.Host, e.Reason) }

// safeError carries an error whose own text may hold secrets. errors.Is and
// errors.AsType see the original.
type safeError struct {
	text string
	err  error
}

func (e *safeError) Error() string { return e.text }
func (e *safeError) Unwrap() error { return e.err }

// scrubbed makes an error of another library safe to print.
func scrubbed(err error) error {
	if err == nil {
		return nil
	}
	if safe, ok := errors.AsType[*safeError](err); ok {
		return safe
	}
	text := err.Error()
	// The one error of go-containerregistry that repeats the token server's answer.
	if i := strings.Index(text, "no token in bearer response"); i >= 0 {
		text = text[:i] + "no token in the token server's answer"
	}
	return &safeError{text: Scrub(text), err: err}
}

var (
	userInfo = regexp.MustCompile(`://[^/@\s"]*@`)
	query    = regexp.MustCompile(`([^\s"?]*/[^\s"?]*)\?[^\s"]*`)
	bearing  = regexp.MustCompile(`(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}`)
)

// maxScrubbed is how much of a foreign text is repeated, in bytes.
const maxScrubbed = 300

// Scrub makes a text of a registry or of an HTTP library fit for logs and statuses: one
// line, at most 300 bytes, without user-info, URL queries and authorization headers.
func Scrub(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	s = userInfo.ReplaceAllString(s, "://…@")
	s = query.ReplaceAllString(s, "$1?…")
	s = bearing.ReplaceAllString(s, "$1$2…")
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxScrubbed {
		s = strings.ToValidUTF8(s[:maxScrubbed], "") + "…"
	}
	return s
}
