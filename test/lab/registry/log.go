package registry

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Request is one request of a client, as it went.
type Request struct {
	// Client is the client's IP address; UserAgent tells apart clients that share one.
	Client    string
	UserAgent string
	// Method, Path and Range are the request's; Range is the header as sent.
	Method string
	Path   string
	Range  string
	// Repository is the image's repository, Blob the digest of a blob, Manifest the tag or digest of a manifest, each
	// empty if the request was not about one.
	Repository string
	Blob       string
	Manifest   string
	// Status is the answer's; 0 while there is none.
	Status int
	// Offset is where in the blob the answer began: 0, or the start of a partial answer.
	Offset int64
	// Bytes are the body bytes that went to the client's connection.
	Bytes int64
	// Start and End are when the request arrived and when its answer ended; End is zero while it goes on.
	Start time.Time
	End   time.Time
}

// A Span is a range of bytes of a blob, from Start up to but without End.
type Span struct{ Start, End int64 }

// A Log is a list of requests, oldest first.
type Log []Request

// Where returns the requests that keep says yes to.
func (l Log) Where(keep func(Request) bool) Log {
	var kept Log
	for _, r := range l {
		if keep(r) {
			kept = append(kept, r)
		}
	}
	return kept
}

// From returns the requests of one client address.
func (l Log) From(client string) Log {
	return l.Where(func(r Request) bool { return r.Client == client })
}

// Blobs returns the requests that fetch (GET) blobs.
func (l Log) Blobs() Log {
	return l.Where(func(r Request) bool { return r.Blob != "" && r.Method == http.MethodGet })
}

// BlobBytes returns how many bytes of blobs were served.
func (l Log) BlobBytes() int64 {
	var sum int64
	for _, r := range l.Blobs() {
		if r.served() {
			sum += r.Bytes
		}
	}
	return sum
}

// served tells whether the answer's body was the blob, and not an error about it.
func (r Request) served() bool { return r.Status == 200 || r.Status == 206 }

// Spans returns the byte ranges of a blob that were served, oldest request first.
func (l Log) Spans(digest string) []Span {
	var spans []Span
	for _, r := range l.Blobs() {
		if r.Blob == digest && r.served() && r.Bytes > 0 {
			spans = append(spans, Span{r.Offset, r.Offset + r.Bytes})
		}
	}
	return spans
}

// Repeated returns how many bytes of a blob were served more than once: a byte served three times counts as two.
func (l Log) Repeated(digest string) int64 {
	spans := l.Spans(digest)
	var all int64
	for _, s := range spans {
		all += s.End - s.Start
	}
	return all - covered(spans)
}

// covered returns how many different bytes lie in spans.
func covered(spans []Span) int64 {
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	var sum, reached int64
	for _, s := range sorted {
		from := max(s.Start, reached)
		if s.End > from {
			sum += s.End - from
			reached = s.End
		}
	}
	return sum
}

// recorder collects requests while they happen.
type recorder struct {
	mu      sync.Mutex
	entries []*entry
}

// entry is a request in progress. Its fields are guarded by the recorder's lock.
type entry struct {
	Request
	live func() int64 // body bytes so far, while the answer goes on
}

func (r *recorder) add(request Request) *entry {
	e := &entry{Request: request}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	return e
}

// update changes e under the lock.
func (r *recorder) update(e *entry, change func(*entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(e)
}

func (r *recorder) log() Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := make(Log, len(r.entries))
	for i, e := range r.entries {
		log[i] = e.Request
		if e.live != nil {
			log[i].Bytes = e.live()
		}
	}
	return log
}

func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = nil
}

// target says what a registry path is about.
func target(path string) (repository, blob, manifest string) {
	match := regexp.MustCompile(`^/v2/(.+)/(blobs|manifests|tags|referrers)/(.*)$`).FindStringSubmatch(path)
	switch {
	case match == nil:
		return "", "", ""
	case match[2] == "blobs" && strings.Contains(match[3], ":"):
		return match[1], match[3], ""
	case match[2] == "manifests":
		return match[1], "", match[3]
	default:
		return match[1], "", ""
	}
}

// offset returns the first byte that a Content-Range header ("bytes 5-9/10") announces.
func offset(contentRange string) int64 {
	span, ok := strings.CutPrefix(contentRange, "bytes ")
	if !ok {
		return 0
	}
	first, _, _ := strings.Cut(span, "-")
	n, _ := strconv.ParseInt(first, 10, 64)
	return n
}
