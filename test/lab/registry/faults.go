package registry

import (
	"net/http"
	"regexp"
	"time"
)

// Faults say how the registry misbehaves towards its clients. The zero value is an honest registry.
type Faults struct {
	// BytesPerSecond limits what each connection is sent; 0 is no limit.
	BytesPerSecond int64
	// Latency is waited before each answer.
	Latency time.Duration
	// CutAfter closes each connection after it was sent that many bytes, headers included; 0 is never.
	CutAfter int64
	// Refuse closes all connections and accepts none.
	Refuse bool
	// IgnoreRange answers requests for a part of a blob with the whole blob, as some registries and proxies do.
	IgnoreRange bool
	// Responses are answers that the proxy gives itself; the first that matches a request does.
	Responses []Response
}

// A Response is an answer given instead of the registry's.
type Response struct {
	// Method is what the request's must be; empty is any.
	Method string
	// Path is what must match the request's path; nil is any.
	Path *regexp.Regexp
	// Times is how often the answer is given; 0 is for ever.
	Times int
	// Status, Header and Body are the answer.
	Status int
	Header http.Header
	Body   string
}

func (r *Response) matches(request *http.Request) bool {
	return (r.Method == "" || r.Method == request.Method) && (r.Path == nil || r.Path.MatchString(request.URL.Path))
}

// canned is a Response with what is left of its Times.
type canned struct {
	Response
	left int // meaningful if Times > 0
}

// take returns the answer for request, if one is due, and counts it.
func take(answers []*canned, request *http.Request) *Response {
	for _, a := range answers {
		if !a.matches(request) || (a.Times > 0 && a.left == 0) {
			continue
		}
		a.left--
		return &a.Response
	}
	return nil
}

func cans(responses []Response) []*canned {
	answers := make([]*canned, len(responses))
	for i, r := range responses {
		answers[i] = &canned{Response: r, left: r.Times}
	}
	return answers
}
