package resolve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/keychain"
)

// wantError checks what an error says, and what holds for every one.
func wantError(t *testing.T, err error, verdict v1alpha1.Verdict, reason, message string) {
	t.Helper()
	_ = judged(t, err, verdict, reason, message)
}

// judged is wantError that gives the error.
func judged(t *testing.T, err error, verdict v1alpha1.Verdict, reason, message string) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error = %v (%T), want an *Error", err, err)
	}
	if e.Verdict != verdict || e.Reason != reason {
		t.Errorf("%s %s, want %s %s (%s)", e.Verdict, e.Reason, verdict, reason, e.Message)
	}
	if !strings.Contains(e.Message, message) {
		t.Errorf("message %q, want one containing %q", e.Message, message)
	}
	if len(e.Message) > maxMessage || strings.ContainsAny(e.Message, "\n\r") || e.Error() != e.Message {
		t.Errorf("message does not fit a status: %q", e.Message)
	}
	for _, secret := range []string{"pa55", "t0ken", "s1gned", "dXNlcjp"} {
		if strings.Contains(e.Message, secret) || e.Err != nil && strings.Contains(e.Err.Error(), secret) {
			t.Errorf("a secret is in %q or %q", e.Message, e.Err)
		}
	}
	if diff := cmp.Diff(v1alpha1.ImageCheck{Verdict: e.Verdict, Reason: e.Reason, Message: e.Message}, e.Check()); diff != "" {
		t.Errorf("Check() (-want +got):\n%s", diff)
	}
	return e
}

// answer writes a registry's error.
func answer(w http.ResponseWriter, status int, codes ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	var list []map[string]string
	for _, c := range codes {
		list = append(list, map[string]string{"code": c, "message": "told " + c})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": list})
}

// on answers requests whose path contains part.
func on(part string, do http.HandlerFunc) front {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		do(w, r)
		return true
	}
}

// status answers with a status and codes.
func status(code int, codes ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { answer(w, code, codes...) }
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const (
		no    = v1alpha1.VerdictNotPullable
		later = v1alpha1.VerdictInconclusive
	)
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4000")
		_, _ = w.Write([]byte(`{"schemaVersion":2,`))
	}
	endless := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}
	html := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<html>password=pa55</html>"))
	}
	send := func(mediaType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			_, _ = w.Write([]byte(body))
		}
	}
	tests := map[string]struct {
		fault   front
		verdict v1alpha1.Verdict
		reason  string
		message string
	}{
		"no such tag":                {nil, no, v1alpha1.ReasonNotFound, "registry.test has no registry.test/app:none (404): check repository and tag, or push it; if it is private, add a pull Secret"},
		"name unknown":               {on("/manifests/", status(404, "NAME_UNKNOWN")), no, v1alpha1.ReasonNotFound, "registry.test has no"},
		"code without its status":    {on("/manifests/", status(400, "MANIFEST_UNKNOWN")), no, v1alpha1.ReasonNotFound, "registry.test has no"},
		"404 of a web server":        {on("/manifests/", html), no, v1alpha1.ReasonNotFound, "registry.test has no"},
		"no registry at all":         {on("/v2/", html), later, v1alpha1.ReasonRegistryError, "does not answer as a registry"},
		"name invalid":               {on("/manifests/", status(400, "NAME_INVALID")), no, v1alpha1.ReasonInvalidReference, "does not accept the name"},
		"refused":                    {on("/manifests/", status(401, "UNAUTHORIZED")), no, v1alpha1.ReasonUnauthorized, "not given to anonymous users"},
		"denied":                     {on("/manifests/", status(403, "DENIED")), no, v1alpha1.ReasonUnauthorized, "add a pull Secret, or check the name"},
		"denied by code":             {on("/manifests/", status(400, "DENIED")), no, v1alpha1.ReasonUnauthorized, "add a pull Secret"},
		"server error":               {on("/manifests/", status(500, "UNKNOWN")), later, v1alpha1.ReasonRegistryError, "500 Internal Server Error UNKNOWN: told UNKNOWN: it is tried again later"},
		"bad gateway at /v2/":        {on("/v2/", status(502)), later, v1alpha1.ReasonRegistryError, "logging in at registry.test/v2/: 502 Bad Gateway"},
		"maintenance":                {on("/manifests/", status(503)), later, v1alpha1.ReasonRegistryError, "503"},
		"gone for good is no 404":    {on("/manifests/", status(410)), later, v1alpha1.ReasonRegistryError, "410"},
		"method not allowed":         {on("/manifests/", status(405, "UNSUPPORTED")), later, v1alpha1.ReasonRegistryError, "405"},
		"slow":                       {on("/manifests/", hang), later, v1alpha1.ReasonNetworkError, "registry.test did not answer in time"},
		"slow at /v2/":               {on("/v2/", hang), later, v1alpha1.ReasonNetworkError, "registry.test did not answer in time"},
		"body cut short":             {on("/manifests/", cut), later, v1alpha1.ReasonNetworkError, "connection to registry.test was lost"},
		"config cut short":           {on("/blobs/", cut), later, v1alpha1.ReasonNetworkError, "connection to registry.test was lost"},
		"endless manifest":           {on("/manifests/", endless), no, v1alpha1.ReasonInvalidImage, "more than 4 MiB"},
		"endless config":             {on("/blobs/", endless), no, v1alpha1.ReasonInvalidImage, "more than 4 MiB"},
		"config missing":             {on("/blobs/", status(404, "BLOB_UNKNOWN")), no, v1alpha1.ReasonNotFound, "registry.test has no part sha256:"},
		"config refused":             {on("/blobs/", status(403, "DENIED")), no, v1alpha1.ReasonUnauthorized, "not given to anonymous users"},
		"config is something else":   {on("/blobs/", send("application/octet-stream", `{"os":"linux"}`)), no, v1alpha1.ReasonDigestMismatch, "registry.test sent other bytes than asked for as image configuration (image configuration: got 14 bytes, want "},
		"not JSON":                   {on("/manifests/", send(string(types.OCIManifestSchema1), "<html>")), no, v1alpha1.ReasonInvalidImage, "manifest is not JSON"},
		"page of a portal":           {on("/v2/", send("text/html; charset=utf-8", "<html>")), later, v1alpha1.ReasonRegistryError, `registry.test: answer of type "text/html" is no manifest: check that it is a registry and that no portal`},
		"text without a type":        {on("/manifests/", send("", "hello")), later, v1alpha1.ReasonRegistryError, "is no manifest"},
		"schema 1":                   {on("/manifests/", send(string(types.DockerManifestSchema1Signed), `{"schemaVersion":1,"fsLayers":[]}`)), no, v1alpha1.ReasonInvalidImage, "Docker schema 1"},
		"empty":                      {on("/manifests/", send(string(types.OCIManifestSchema1), "")), no, v1alpha1.ReasonInvalidImage, "manifest is not JSON"},
		"challenge without a realm":  {on("/v2/", challenge(`Bearer service="x"`)), later, v1alpha1.ReasonRegistryError, "missing realm"},
		"challenge nobody knows":     {on("/v2/", challenge("Negotiate")), no, v1alpha1.ReasonUnauthorized, "not given to anonymous users"},
		"token server at private IP": {on("/v2/", challenge(`Bearer realm="http://10.0.0.9/t0ken",service="x"`)), later, v1alpha1.ReasonRegistryError, "private or link-local address"},
		"token server not in DNS":    {on("/v2/", challenge(`Bearer realm="http://auth.test/get",service="x"`)), later, v1alpha1.ReasonTLSError, "auth.test would be asked without TLS"},
		"token server over TLS":      {on("/v2/", challenge(`Bearer realm="https://auth.test/get",service="x"`)), later, v1alpha1.ReasonNetworkError, "host auth.test is not known to DNS"},
		"connection dropped":         {on("/manifests/", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), later, v1alpha1.ReasonNetworkError, "connection to registry.test was lost"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var fronts []front
			if tc.fault != nil {
				fronts = append(fronts, tc.fault)
			}
			s := newServer(t, fronts...)
			settings := plain("registry.test")
			settings.Timeout = 2 * time.Second
			r := newResolver(t, settings, map[string]*server{"registry.test": s})
			s.push(t, "app:v1", image(t, "linux/amd64", 1))
			tag := "v1"
			if tc.fault == nil {
				tag = "none"
			}
			_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:"+tag), anonymous)
			wantError(t, err, tc.verdict, tc.reason, tc.message)
		})
	}
}

// challenge answers 401 with a way to log in.
func challenge(value string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", value)
		answer(w, http.StatusUnauthorized, "UNAUTHORIZED")
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	closed := newServer(t)
	closed.Close()
	r := newResolver(t, plain("closed.test", "absent.test"), names{"closed.test": closed})
	_, err := r.Digest(t.Context(), ref(t, "closed.test/app"), anonymous)
	wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonNetworkError, "closed.test is not reached (connection refused)")
	_, err = r.Digest(t.Context(), ref(t, "absent.test/app"), anonymous)
	e := judged(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonNetworkError, "host absent.test is not known to DNS")
	if e.Host != "absent.test" {
		t.Errorf("Host = %q", e.Host)
	}
}

func TestWrongContent(t *testing.T) {
	t.Parallel()
	layers := func(n int) string {
		one := `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1}`
		return strings.TrimSuffix(strings.Repeat(one+",", n), ",")
	}
	entries := func(n int) string {
		one := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1,"platform":{"os":"linux","architecture":"amd64"}}`
		return strings.TrimSuffix(strings.Repeat(one+",", n), ",")
	}
	const config = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
	manifest, index := types.OCIManifestSchema1, types.OCIImageIndex
	tests := map[string]struct {
		what    rawManifest
		reason  string
		message string
	}{
		"image and index at once":      {rawManifest{`{"schemaVersion":2,` + config + `,"layers":[],"manifests":[]}`, manifest}, v1alpha1.ReasonInvalidImage, "neither clearly an image nor clearly an index"},
		"neither":                      {rawManifest{`{"schemaVersion":2}`, manifest}, v1alpha1.ReasonInvalidImage, "neither clearly"},
		"index sent as an image":       {rawManifest{`{"schemaVersion":2,"manifests":[]}`, manifest}, v1alpha1.ReasonInvalidImage, "does not fit the manifest's content"},
		"image sent as an index":       {rawManifest{`{"schemaVersion":2,` + config + `,"layers":[]}`, index}, v1alpha1.ReasonInvalidImage, "does not fit"},
		"too many layers":              {rawManifest{`{"schemaVersion":2,` + config + `,"layers":[` + layers(MaxLayers+1) + `]}`, manifest}, v1alpha1.ReasonInvalidImage, "image has 257 layers, at most 256"},
		"too many entries":             {rawManifest{`{"schemaVersion":2,"manifests":[` + entries(maxEntries+1) + `]}`, index}, v1alpha1.ReasonInvalidImage, "more than 1000 entries"},
		"oversized":                    {rawManifest{`{"schemaVersion":2,` + config + `,"layers":[],"x":"` + strings.Repeat("x", 4<<20) + `"}`, manifest}, v1alpha1.ReasonInvalidImage, "more than 4 MiB"},
		"oversized config announced":   {rawManifest{`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + strings.Repeat("a", 64) + `","size":4194305},"layers":[]}`, manifest}, v1alpha1.ReasonInvalidImage, "configuration has 4194305 bytes"},
		"negative size":                {rawManifest{`{"schemaVersion":2,` + config + `,"layers":[{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":-1}]}`, manifest}, v1alpha1.ReasonInvalidImage, "part of -1 bytes"},
		"absurd size":                  {rawManifest{`{"schemaVersion":2,` + config + `,"layers":[{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":9223372036854775807}]}`, manifest}, v1alpha1.ReasonInvalidImage, "part of 9223372036854775807 bytes"},
		"other digest":                 {rawManifest{`{"schemaVersion":2,` + config + `,"layers":[{"digest":"sha512:` + strings.Repeat("a", 128) + `","size":1}]}`, manifest}, v1alpha1.ReasonInvalidImage, "uses sha512 digests"},
		"no digest":                    {rawManifest{`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}`, manifest}, v1alpha1.ReasonInvalidImage, "without its digest"},
		"malformed digest":             {rawManifest{`{"schemaVersion":2,` + config + `,"layers":[{"digest":"sha256:xyz","size":1}]}`, manifest}, v1alpha1.ReasonInvalidImage, "malformed"},
		"chart":                        {rawManifest{`{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1},"layers":[]}`, manifest}, v1alpha1.ReasonInvalidImage, `not a container image: its configuration is of type "application/vnd.cncf.helm.config.v1+json"`},
		"empty index":                  {rawManifest{`{"schemaVersion":2,"manifests":[]}`, index}, v1alpha1.ReasonPlatformMissing, "no Linux platform"},
		"index of unknown media types": {rawManifest{`{"schemaVersion":2,"manifests":[{"mediaType":"text/plain","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1}]}`, index}, v1alpha1.ReasonPlatformMissing, "no Linux platform"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := one(t, on("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", string(tc.what.mediaType))
				_, _ = w.Write([]byte(tc.what.body))
			}))
			_ = s
			_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
			wantError(t, err, v1alpha1.VerdictNotPullable, tc.reason, tc.message)
		})
	}
}

func TestWindowsOnly(t *testing.T) {
	t.Parallel()
	s, r := one(t)
	s.push(t, "app:single", image(t, "windows/amd64", 1))
	s.push(t, "app:index", indexOf(t, "windows/amd64", "darwin/arm64"))
	_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:single"), anonymous)
	wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonPlatformMissing, "it is for windows/amd64: build it for linux")
	_, err = r.Resolve(t.Context(), ref(t, "registry.test/app:index"), anonymous)
	wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonPlatformMissing, "no Linux platform")
}

// TestLies: what is asked for by digest has that digest, at every level.
func TestLies(t *testing.T) {
	t.Parallel()
	index := indexOf(t, "linux/amd64", "linux/arm64")
	raw, err := index.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	other := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		w.Header().Set("Docker-Content-Digest", r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
		_, _ = w.Write([]byte(`{"schemaVersion":2,"layers":[]}`))
	}
	top := digest.FromBytes(raw)
	t.Run("manifest by digest", func(t *testing.T) {
		t.Parallel()
		_, r := one(t, on("/manifests/", other))
		_, err := r.Resolve(t.Context(), ref(t, "registry.test/app").WithDigest(top), anonymous)
		wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonDigestMismatch, "want "+top.String())
	})
	t.Run("manifest in an index", func(t *testing.T) {
		t.Parallel()
		s, r := one(t, on(m.Manifests[1].Digest.String(), other))
		s.push(t, "app:v1", index)
		_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
		wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonDigestMismatch, "push the image again")
	})
	t.Run("size in an index", func(t *testing.T) {
		t.Parallel()
		c := m.DeepCopy()
		c.Manifests[0].Size++
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		s, r := one(t)
		s.push(t, "app:v1", index)
		s.push(t, "app:v2", rawManifest{string(b), types.OCIImageIndex})
		_, err = r.Resolve(t.Context(), ref(t, "registry.test/app:v2"), anonymous)
		wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonDigestMismatch, "manifest: got ")
	})
	t.Run("kinds swapped", func(t *testing.T) {
		t.Parallel()
		s, r := one(t)
		s.push(t, "app:v1", index)
		for kind, change := range map[string]types.MediaType{"image": types.OCIImageIndex, "index": types.OCIManifestSchema1} {
			c := m.DeepCopy()
			c.Manifests = c.Manifests[:1]
			if kind == "index" {
				c.Manifests[0].Digest, c.Manifests[0].Size, c.Manifests[0].Platform = must(t, index.Digest), int64(len(raw)), nil
			}
			c.Manifests[0].MediaType = change
			b, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			s.push(t, "app:"+kind, rawManifest{string(b), types.OCIImageIndex})
			_, err = r.Resolve(t.Context(), ref(t, "registry.test/app:"+kind), anonymous)
			wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonInvalidImage, "")
		}
	})
}

func must[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestHeadLies: whatever HEAD says or does not say, Digest gives the right answer.
func TestHeadLies(t *testing.T) {
	t.Parallel()
	head := func(do http.HandlerFunc) front {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodHead {
				return false
			}
			do(w, r)
			return true
		}
	}
	says := func(d string) front {
		return head(func(w http.ResponseWriter, _ *http.Request) {
			if d != "" {
				w.Header().Set("Docker-Content-Digest", d)
			}
			w.WriteHeader(http.StatusOK)
		})
	}
	tests := map[string]front{
		"no digest":            says(""),
		"malformed digest":     says("sha256:xyz"),
		"sha512 digest":        says("sha512:" + strings.Repeat("a", 128)),
		"uppercase digest":     says("sha256:" + strings.Repeat("A", 64)),
		"404":                  head(status(404)),
		"405":                  head(status(405)),
		"400":                  head(status(400)),
		"406":                  head(status(406)),
		"501 not implemented":  head(status(501)),
		"only type and length": head(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "5") }),
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := one(t, f)
			want := s.push(t, "app:v1", indexOf(t, "linux/amd64"))
			for _, asked := range []imageref.Reference{ref(t, "registry.test/app:v1"), ref(t, "registry.test/app").WithDigest(want)} {
				got, err := r.Digest(t.Context(), asked, anonymous)
				if err != nil || got != want {
					t.Errorf("Digest(%s) = %s, %v, want %s", asked, got, err, want)
				}
			}
			if n := s.count("HEAD"); n != 2 {
				t.Errorf("%d HEAD requests, want 2", n)
			}
			if n := s.count("GET /v2/app/manifests/"); n != 2 {
				t.Errorf("%d GET requests, want 2", n)
			}
		})
	}
	t.Run("digest of another image", func(t *testing.T) {
		t.Parallel()
		s, r := one(t, says("sha256:"+strings.Repeat("a", 64)))
		want := s.push(t, "app:v1", indexOf(t, "linux/amd64"))
		if got, err := r.Digest(t.Context(), ref(t, "registry.test/app").WithDigest(want), anonymous); err != nil || got != want {
			t.Errorf("Digest = %s, %v, want %s by GET", got, err, want)
		}
	})
	t.Run("absent for both", func(t *testing.T) {
		t.Parallel()
		_, r := one(t)
		_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
		wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonNotFound, "registry.test has no")
	})
}

func TestMessagesStayShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 400)
	_, r := one(t, on("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, "https://u:pa55@x.test/?sig=s1gned Authorization: Basic dXNlcjpwYTU1 "+long)
	}))
	_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), keychain.Of(user("registry.test", "scott", "pa55")))
	wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized, "registry.test/app:v1 is not given to any of 1 matching credentials")
	if got := cut(strings.Repeat("a", maxMessage-1) + "üü"); len(got) > maxMessage || !strings.HasSuffix(got, "a…") {
		t.Errorf("cut gives %d bytes ending in %q", len(got), got[len(got)-6:])
	}
}

// TestManyLayersAndEntriesWithinLimits: the limits themselves are allowed.
func TestManyLayersAndEntriesWithinLimits(t *testing.T) {
	t.Parallel()
	s, r := one(t)
	big := image(t, "linux/amd64", MaxLayers)
	s.push(t, "app:v1", mutate.AppendManifests(empty.Index, entryOf(t, big, "linux/amd64")))
	got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Platforms[0].Layers); n != MaxLayers {
		t.Errorf("%d layers, want %d", n, MaxLayers)
	}
}
