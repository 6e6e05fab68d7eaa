package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"edgecache.dev/test/lab/toolchain"
)

const (
	layerSize = 1 << 20
	// patience bounds each wait: how long a machine may be busy with other tests.
	patience = 2 * time.Minute
)

func httpGet(t *testing.T) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
}

// startOne starts a registry and returns it with one image pushed as app:v1 and the digest of its layer.
func startOne(t *testing.T) (*Registry, string) {
	t.Helper()
	tools, err := toolchain.Here(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := tools.Lab(t.Context(), "registry"); err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: a socket's path must be short.
	dir, err := os.MkdirTemp("", "lab-registry-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	r, err := Start(t.Context(), Options{Dir: dir, Binary: tools.Path("registry")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return r, push(t, r, "app:v1")
}

func push(t *testing.T, r *Registry, reference string) (layer string) {
	t.Helper()
	image, err := random.Image(layerSize, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref(t, r, reference), image, remote.WithTransport(r.Direct())); err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func ref(t *testing.T, r *Registry, reference string) name.Reference {
	t.Helper()
	parsed, err := name.ParseReference(r.Addr()+"/"+reference, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// header is the head of an answer.
type header struct {
	http.Header
	StatusCode int
}

// fetch gets a blob through the door with a connection of its own, from the given byte on, and returns what arrived.
func fetch(t *testing.T, r *Registry, digest, ranged string) (header, []byte, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addr()+"/v2/app/blobs/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranged != "" {
		request.Header.Set("Range", ranged)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return header{}, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return header{answer.Header, answer.StatusCode}, body, err
}

// last waits for the newest request to end and returns it: the client is often done a moment before the server.
func last(t *testing.T, r *Registry) Request {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		log := r.Requests()
		if n := len(log); n > 0 && !log[n-1].End.IsZero() {
			return log[n-1]
		}
	}
	t.Fatal("the request does not end")
	return Request{}
}

func faults(t *testing.T, r *Registry, f Faults) {
	t.Helper()
	if err := r.SetFaults(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestRequestsAreRecorded(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	if n := len(r.Requests()); n != 0 {
		t.Errorf("%d requests recorded for a push through the back door", n)
	}
	_, whole, err := fetch(t, r, layer, "")
	if err != nil {
		t.Fatal(err)
	}
	answer, part, err := fetch(t, r, layer, "bytes=1000-")
	if err != nil || answer.StatusCode != http.StatusPartialContent || !bytes.Equal(part, whole[1000:]) {
		t.Fatalf("a range: %v, %v, %d bytes", answer, err, len(part))
	}
	got := last(t, r)
	if got.Start.IsZero() || got.End.Before(got.Start) {
		t.Errorf("from %s to %s", got.Start, got.End)
	}
	got.Start, got.End = time.Time{}, time.Time{}
	want := Request{
		Client: "127.0.0.1", UserAgent: "Go-http-client/1.1", Method: "GET", Path: "/v2/app/blobs/" + layer,
		Range: "bytes=1000-", Repository: "app", Blob: layer, Status: 206, Offset: 1000, Bytes: int64(len(whole) - 1000),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	size := int64(len(whole))
	if diff := cmp.Diff([]Span{{0, size}, {1000, size}}, r.Requests().Spans(layer)); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if got := r.Requests().From("127.0.0.1").BlobBytes(); got != 2*size-1000 {
		t.Errorf("%d bytes of blobs, want %d", got, 2*size-1000)
	}
	r.ResetRequests()
	if n := len(r.Requests()); n != 0 {
		t.Errorf("%d requests after the reset", n)
	}
}

func TestPullThroughTheDoor(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	image, err := remote.Image(ref(t, r, "app:v1"))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, image)
	log := r.Requests()
	if n := len(log.Where(func(r Request) bool { return r.Manifest == "v1" && r.Repository == "app" })); n != 1 {
		t.Errorf("%d requests for the manifest, want 1:\n%v", n, log)
	}
	if got := log.Repeated(layer); got != 0 {
		t.Errorf("%d bytes served twice", got)
	}
	// Uploads go through the door as well, for clients that do not know the back door.
	pushed, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref(t, r, "other:v1"), pushed); err != nil {
		t.Error(err)
	}
}

func readAll(t *testing.T, image v1.Image) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		content, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALimitHoldsAtOnce(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	// All of it would take half an hour.
	faults(t, r, Faults{BytesPerSecond: layerSize / 2000})
	begin := time.Now()
	// Freed in the middle: a connection that is already open gets fast.
	time.AfterFunc(time.Second, func() { _ = r.SetFaults(context.Background(), Faults{}) })
	_, _, err := fetch(t, r, layer, "")
	if took := time.Since(begin); err != nil || took < time.Second || took > patience {
		t.Errorf("took %s, %v; want a little more than a second", took, err)
	}
}

func TestALimitIsKept(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	faults(t, r, Faults{BytesPerSecond: layerSize / 2})
	begin := time.Now()
	_, body, err := fetch(t, r, layer, "")
	want := 2 * time.Second * time.Duration(len(body)) / layerSize
	if took := time.Since(begin); err != nil || took < want*8/10 {
		t.Errorf("took %s, %v; want %s", took, err, want)
	}
}

func TestLiveRequestsShowTheirBytes(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	faults(t, r, Faults{BytesPerSecond: layerSize / 2000})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, _, err := fetch(t, r, layer, ""); err != nil {
			t.Error(err)
		}
	}()
	live := func() bool {
		log := r.Requests()
		return len(log) == 1 && log[0].End.IsZero() && log[0].Bytes > 0
	}
	for deadline := time.Now().Add(patience); !live(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the request never showed bytes while it went on")
			break
		}
	}
	faults(t, r, Faults{})
	<-done
}

func TestACutConnectionGivesExactlyWhatWasRecorded(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	faults(t, r, Faults{CutAfter: 100_000})
	_, first, err := fetch(t, r, layer, "")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %d bytes, %v; want an unexpected end", len(first), err)
	}
	if got := last(t, r).Bytes; got != int64(len(first)) {
		t.Errorf("recorded %d bytes, the client got %d", got, len(first))
	}
	// Resuming where the connection was cut repeats nothing.
	faults(t, r, Faults{})
	if _, _, err := fetch(t, r, layer, "bytes="+strconv.Itoa(len(first))+"-"); err != nil {
		t.Fatal(err)
	}
	last(t, r)
	if got := r.Requests().Repeated(layer); got != 0 {
		t.Errorf("%d bytes repeated", got)
	}
}

func TestRefusedAndReadmitted(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	faults(t, r, Faults{Refuse: true})
	if _, _, err := fetch(t, r, layer, ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want connection refused", err)
	}
	faults(t, r, Faults{})
	if _, _, err := fetch(t, r, layer, ""); err != nil {
		t.Error(err)
	}
}

func TestRefusingCutsOpenConnections(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	faults(t, r, Faults{BytesPerSecond: layerSize / 100})
	time.AfterFunc(300*time.Millisecond, func() { _ = r.SetFaults(context.Background(), Faults{Refuse: true}) })
	if _, _, err := fetch(t, r, layer, ""); err == nil {
		t.Error("the connection was not cut")
	}
}

func TestRangesIgnored(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	faults(t, r, Faults{IgnoreRange: true})
	answer, body, err := fetch(t, r, layer, "bytes=1000-")
	if err != nil || answer.StatusCode != http.StatusOK || len(body) < layerSize {
		t.Errorf("got %v, %d bytes, %v; want the whole blob", answer, len(body), err)
	}
	if got := last(t, r); got.Range != "bytes=1000-" || got.Offset != 0 {
		t.Errorf("recorded %+v", got)
	}
}

func TestAnswersInsteadOfTheRegistrys(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	faults(t, r, Faults{
		Latency: 200 * time.Millisecond,
		Responses: []Response{{
			Path: regexp.MustCompile("/blobs/"), Times: 1, Status: http.StatusTooManyRequests,
			Header: http.Header{"Retry-After": {"7"}}, Body: "slow down",
		}},
	})
	begin := time.Now()
	answer, body, err := fetch(t, r, layer, "")
	if err != nil || answer.StatusCode != http.StatusTooManyRequests || answer.Get("Retry-After") != "7" || string(body) != "slow down" {
		t.Errorf("got %v, %q, %v", answer, body, err)
	}
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("answered after %s", took)
	}
	if answer, _, err := fetch(t, r, layer, ""); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("the second answer: %v, %v", answer, err)
	}
	if got := r.Requests().BlobBytes(); got < layerSize || got > 2*layerSize {
		t.Errorf("%d bytes of blobs: the canned answer was counted", got)
	}
}

func TestStoppedAndStarted(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	addr := r.Addr()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := fetch(t, r, layer, ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("stopped: %v, want connection refused", err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := fetch(t, r, layer, ""); err != nil || r.Addr() != addr {
		t.Errorf("started at %s (was %s): %v", r.Addr(), addr, err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	r, _ := startOne(t)
	push(t, r, "private/app:v1")
	push(t, r, "private/more/app:v1")
	protected := []Protected{{"private/", "alice", "secret"}, {"private/more/", "bob", "hidden"}}
	alice := authn.FromConfig(authn.AuthConfig{Username: "alice", Password: "secret"})
	mallory := authn.FromConfig(authn.AuthConfig{Username: "alice", Password: "guess"})
	for name, token := range map[string]bool{"basic": false, "token": true} {
		r.SetAuth(&Auth{Token: token, Protected: protected})
		for _, tc := range []struct {
			reference string
			who       authn.Authenticator
			want      bool
		}{
			{"app:v1", authn.Anonymous, true},
			{"private/app:v1", authn.Anonymous, false},
			{"private/app:v1", mallory, false},
			{"private/app:v1", alice, true},
			{"private/more/app:v1", alice, false},
		} {
			_, err := remote.Image(ref(t, r, tc.reference), remote.WithAuth(tc.who))
			if (err == nil) != tc.want {
				t.Errorf("%s: %s as %v: %v, want success %v", name, tc.reference, tc.who, err, tc.want)
			}
		}
	}
	r.SetAuth(nil)
	if _, err := remote.Image(ref(t, r, "private/app:v1")); err != nil {
		t.Errorf("after the rules were lifted: %v", err)
	}
}

func TestADeadRegistryAnswersBadGateway(t *testing.T) {
	t.Parallel()
	r, layer := startOne(t)
	if err := r.Process().Kill(); err != nil {
		t.Fatal(err)
	}
	answer, body, err := fetch(t, r, layer, "")
	if err != nil || answer.StatusCode != http.StatusBadGateway {
		t.Errorf("got %v, %q, %v", answer, body, err)
	}
}

func TestALongPathIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	_, err := Start(t.Context(), Options{Dir: dir, Binary: "/bin/true"})
	if err == nil || !strings.Contains(err.Error(), "choose a shorter folder") {
		t.Errorf("got %v", err)
	}
}
