package fetchtest

import (
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// drain is how long a connection stays after its last byte before it is cut, so that the
// client has read what was sent: closing at once would discard bytes on their way, and
// counts would not be exact.
const drain = 150 * time.Millisecond

// Faults are ways in which a registry may misbehave. The zero value is well-behaved.
type Faults struct {
	// CutAfter cuts the connection when that many bytes of a blob have been sent. 0 never.
	CutAfter int64
	// Cuts bounds how many transfers are cut. 0 is all.
	Cuts int
	// Stall keeps the connection open after CutAfter bytes without sending more, until
	// the client goes.
	Stall bool
	// Rate slows blobs to about that many bytes per second. 0 is unlimited.
	Rate int64
	// NoRange serves blobs whole whatever range is asked for.
	NoRange bool
	// Status refuses each request for manifests and blobs with this status.
	Status int
	// Code is the error code in the body of a refusal, such as TOOMANYREQUESTS.
	Code string
	// RetryAfter is the Retry-After header of a refusal.
	RetryAfter string
	// Only limits Status to requests whose path contains this.
	Only string
	// Lie serves wrong bytes of the right length for this blob or manifest.
	Lie digest.Digest
	// User and Secret are asked for by basic authentication.
	User, Secret string
	// Redirect sends requests for blobs to this base URL ("http://other:1/x"), where the
	// digest is added.
	Redirect string
	// Before, when set, sees each request first. True means that it has answered.
	Before func(http.ResponseWriter, *http.Request) bool
}

// ServeHTTP serves the registry API with faults.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, &http.Request{Method: req.Method, URL: req.URL, Header: req.Header.Clone(), Host: req.Host})
	f := r.faults
	r.mu.Unlock()
	kind := path.Base(path.Dir(req.URL.Path))
	content := kind == "manifests" || kind == "blobs"
	switch {
	case f.Before != nil && f.Before(w, req):
	case f.User != "" && !authorized(req, f):
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
	case content && f.Status != 0 && strings.Contains(req.URL.Path, f.Only):
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		refuse(w, f.Status, f.Code)
	case kind == "blobs" && f.Redirect != "" && req.Method == http.MethodGet:
		http.Redirect(w, req, f.Redirect+"/"+path.Base(req.URL.Path), http.StatusTemporaryRedirect)
	case kind == "blobs" && req.Method == http.MethodGet:
		r.serveBlob(w, req, f)
	case kind == "manifests" && path.Base(req.URL.Path) == f.Lie.String():
		fmt.Fprint(w, `{"schemaVersion":2,"manifests":[]}`)
	default:
		r.inner.ServeHTTP(w, req)
	}
}

func authorized(req *http.Request, f Faults) bool {
	user, secret, ok := req.BasicAuth()
	return ok && user == f.User && secret == f.Secret
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`, code)
}

// serveBlob serves one blob or the end of it.
func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, f Faults) {
	d := digest.Digest(path.Base(req.URL.Path))
	body := r.Blob(d)
	if body == nil {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	first := rangeStart(req)
	tr := r.began(d, first)
	size := int64(len(body))
	switch {
	case first > 0 && first >= size && !f.NoRange:
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "")
		return
	case first > 0 && !f.NoRange:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, size-1, size))
		w.Header().Set("Content-Length", strconv.FormatInt(size-first, 10))
		w.WriteHeader(http.StatusPartialContent)
		body = body[first:]
	default:
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	if d == f.Lie {
		body = append([]byte{body[0] ^ 0xff}, body[1:]...)
	}
	r.send(w, req, body, f, tr)
}

// rangeStart reads "bytes=N-". Clients under test ask for nothing else.
func rangeStart(req *http.Request) int64 {
	s, ok := strings.CutPrefix(req.Header.Get("Range"), "bytes=")
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(s, "-"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (r *Registry) began(d digest.Digest, first int64) *Transfer {
	r.mu.Lock()
	defer r.mu.Unlock()
	tr := &Transfer{Blob: d, First: first}
	r.transfers = append(r.transfers, tr)
	return tr
}

// cut says whether this transfer is one of those to cut, and counts it.
func (r *Registry) cut() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cuts--
	return r.cuts >= 0
}

// send writes a body as the faults have it.
func (r *Registry) send(w http.ResponseWriter, req *http.Request, body []byte, f Faults, tr *Transfer) {
	cut := f.CutAfter > 0 && int64(len(body)) > f.CutAfter && r.cut()
	if cut {
		body = body[:f.CutAfter]
	}
	chunk := len(body)
	if f.Rate > 0 {
		chunk = max(int(f.Rate/20), 1) // 20 pieces a second
	}
	for len(body) > 0 {
		n, err := w.Write(body[:min(chunk, len(body))])
		r.mu.Lock()
		tr.Sent += int64(n)
		r.mu.Unlock()
		if err != nil || req.Context().Err() != nil {
			return
		}
		body = body[n:]
		if f.Rate > 0 {
			flush(w)
			time.Sleep(time.Second / 20)
		}
	}
	if cut {
		flush(w)
		if f.Stall {
			<-req.Context().Done()
		}
		time.Sleep(drain)
		panic(http.ErrAbortHandler)
	}
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
