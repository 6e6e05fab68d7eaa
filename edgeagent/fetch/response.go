package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a registry may ask for: a day, whatever it says.
const maxRetryAfter = 24 * time.Hour

// errRange says that the registry's blob ends before the offset that was asked for: what
// the store holds cannot be the beginning of it.
var errRange = errors.New("the registry's blob ends before the part that is missing")

// head is an answer without its body.
type head struct {
	host   string
	status int
	length int64 // of the body, -1 when the server does not say
	header http.Header
}

func headOf(host string, resp *http.Response) head {
	return head{host: host, status: resp.StatusCode, length: resp.ContentLength, header: resp.Header}
}

// checkBlob judges the answer to a request for a blob from offset on. It says how many
// bytes of the body come before offset.
func checkBlob(h head, size, offset int64) (skip int64, err error) {
	fail := func(format string, args ...any) (int64, error) {
		return 0, &Error{Reason: RegistryError, Host: h.host, Status: h.status, Err: fmt.Errorf(format, args...)}
	}
	if enc := h.header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return fail("answers in content encoding %.20q, which was not asked for", enc)
	}
	switch h.status {
	case http.StatusPartialContent:
		if err := checkRange(h.header.Get("Content-Range"), size, offset); err != nil {
			return fail("%w", err)
		}
		return 0, nil
	case http.StatusRequestedRangeNotSatisfiable:
		return fail("%w", errRange)
	case http.StatusOK:
		if h.length >= 0 && h.length != size {
			return fail("serves %d bytes, want %d", h.length, size)
		}
		return offset, nil
	}
	return fail("answers with an unexpected status")
}

// checkRange says whether a Content-Range header is what was asked for: from offset to the
// end of size bytes. A registry may send less; the rest is asked for again.
func checkRange(header string, size, offset int64) error {
	r, err := parseContentRange(header)
	switch {
	case err != nil:
		return err
	case r.first != offset:
		return fmt.Errorf("sends bytes from %d on, want from %d on", r.first, offset)
	case r.last >= size || r.size >= 0 && r.size != size:
		return fmt.Errorf("sends %q of a blob of %d bytes", header, size)
	}
	return nil
}

// contentRange is a parsed Content-Range header. size is -1 where the server did not say.
type contentRange struct{ first, last, size int64 }

// parseContentRange reads "bytes 100-199/200" or "bytes 100-199/*" (RFC 9110, 14.4).
func parseContentRange(s string) (contentRange, error) {
	bad := fmt.Errorf("content range %.60q: want bytes first-last/size", s)
	unit, rest, ok1 := strings.Cut(s, " ")
	span, total, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok1 || !ok2 || !ok3 || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, bad
	}
	r := contentRange{size: -1}
	var ok [3]bool
	r.first, ok[0] = parseBytes(first)
	r.last, ok[1] = parseBytes(last)
	if ok[2] = total == "*"; !ok[2] {
		r.size, ok[2] = parseBytes(total)
	}
	if !ok[0] || !ok[1] || !ok[2] || r.last < r.first || r.size >= 0 && r.last >= r.size {
		return contentRange{}, bad
	}
	return r, nil
}

// parseBytes reads a number of digits only: no sign and no space.
func parseBytes(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && s[0] >= '0' && s[0] <= '9'
}

// statusError says what a refusal means. Of the body only the error code is used: servers
// may echo anything in their messages, also what they were sent.
func statusError(h head, body []byte) error {
	code := errorCode(body)
	e := &Error{Host: h.host, Status: h.status}
	switch {
	case h.status == http.StatusTooManyRequests || code == "TOOMANYREQUESTS":
		e.Reason, e.Err = RateLimited, errors.New("too many requests")
		e.RetryAfter = retryAfter(h.header.Get("Retry-After"), time.Now())
	case h.status == http.StatusUnauthorized:
		e.Reason, e.Err = Unauthorized, errors.New("credentials are missing or refused")
	case h.status == http.StatusForbidden:
		e.Reason, e.Err = Unauthorized, errors.New("access is denied")
	case h.status == http.StatusNotFound:
		e.Reason, e.Err = NotFound, errors.New("not found")
	case passing(h.status):
		e.Reason, e.Err = RegistryError, errors.New("server error")
	default:
		e.Reason, e.Err = RegistryError, errors.New("request refused")
	}
	if code != "" {
		e.Err = fmt.Errorf("%w: %s", e.Err, code)
	}
	return e
}

// errorCode gives the first error code of a registry's JSON answer, such as
// MANIFEST_UNKNOWN, "" when there is none that looks like one.
func errorCode(body []byte) string {
	var answer struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Errors) == 0 {
		return ""
	}
	code := answer.Errors[0].Code
	if len(code) > 40 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
		return ""
	}
	return code
}

// retryAfter reads a Retry-After header: seconds or a date. 0 means that it says nothing.
func retryAfter(s string, now time.Time) time.Duration {
	if n, ok := parseBytes(s); ok {
		return time.Duration(min(n, int64(maxRetryAfter/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
