package registrycheck

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/registrycheck/keychain"
)

// authFailures are those of logging in.
func authFailures() []failure {
	healthy := func(t *testing.T, s *server, f front) {
		s.image(t, "app", "v1", host, 2)
		s.on(f)
	}
	return []failure{
		{"log-in wanted, none given", func(t *testing.T, s *server) subject {
			healthy(t, s, basic)
			return subject{}
		}, ReasonUnauthorized, ""},
		{"wrong password", func(t *testing.T, s *server) subject {
			healthy(t, s, basic)
			return subject{keys: []keychain.Credential{user(s.addr(), "scott", "pa55-wrong")}}
		}, ReasonUnauthorized, ""},
		{"right password", func(t *testing.T, s *server) subject {
			healthy(t, s, basic)
			return subject{keys: []keychain.Credential{user(s.addr(), "scott", "pa55")}}
		}, ReasonAvailable, ""},
		{"second of two credentials is right", func(t *testing.T, s *server) subject {
			healthy(t, s, basic)
			return subject{keys: []keychain.Credential{user(s.addr(), "scott", "pa55-old"), user(s.addr(), "scott", "pa55")}}
		}, ReasonAvailable, ""},
		{"token given", func(t *testing.T, s *server) subject {
			healthy(t, s, bearer(s, func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"token":"t0ken"}`) }))
			return subject{}
		}, ReasonAvailable, ""},
		{"token server refuses", func(t *testing.T, s *server) subject {
			healthy(t, s, bearer(s, func(w http.ResponseWriter) { refuse(w, http.StatusUnauthorized, "UNAUTHORIZED") }))
			return subject{keys: []keychain.Credential{user(s.addr(), "scott", "pa55")}}
		}, ReasonUnauthorized, ""},
		{"token server is down", func(t *testing.T, s *server) subject {
			healthy(t, s, bearer(s, func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }))
			return subject{}
		}, ReasonRegistryError, ""},
		{"token server gives nonsense", func(t *testing.T, s *server) subject {
			healthy(t, s, bearer(s, func(w http.ResponseWriter) { _, _ = io.WriteString(w, `<html>`) }))
			return subject{}
		}, ReasonRegistryError, ""},
		{"token does not allow to pull", func(t *testing.T, s *server) subject {
			healthy(t, s, bearer(s, func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"token":"other"}`) }))
			return subject{}
		}, ReasonUnauthorized, ""},
		{"repository denied", func(t *testing.T, s *server) subject {
			healthy(t, s, on("/manifests/", status(http.StatusForbidden, "DENIED")))
			return subject{}
		}, ReasonUnauthorized, ""},
		{"layers denied", func(t *testing.T, s *server) subject {
			b, _ := s.image(t, "app", "v1", host, 2)
			s.on(on(b.manifest.Layers[0].Digest.String(), status(http.StatusForbidden, "DENIED")))
			return subject{}
		}, ReasonUnauthorized, ""},
	}
}

// registryFailures are those of a registry as a whole.
func registryFailures() []failure {
	with := func(f front) func(*testing.T, *server) subject {
		return func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 2)
			s.on(f)
			return subject{}
		}
	}
	retry := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			refuse(w, code, "TOOMANYREQUESTS")
		}
	}
	return []failure{
		{"another web server", with(on("/", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })), ReasonRegistryError, ""},
		{"log-in page of a network", with(on("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>Welcome</html>") })), ReasonRegistryError, ""},
		{"registry fails", with(on("/", status(http.StatusInternalServerError))), ReasonRegistryError, ""},
		{"registry fails for manifests", with(on("/manifests/", status(http.StatusBadGateway))), ReasonRegistryError, ""},
		{"registry is down for maintenance", with(on("/", retry(http.StatusServiceUnavailable))), ReasonRegistryError, ""},
		{"too many requests", with(on("/", retry(http.StatusTooManyRequests))), ReasonRateLimited, ""},
		{"too many pulls", with(on("/manifests/", status(http.StatusTooManyRequests, "TOOMANYREQUESTS"))), ReasonRateLimited, ""},
		{"too many requests for layers", with(on("/blobs/", retry(http.StatusTooManyRequests))), ReasonRateLimited, ""},
		{"no such repository", func(*testing.T, *server) subject { return subject{} }, ReasonNotFound, ""},
		{"no such tag", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v2", host, 1)
			return subject{}
		}, ReasonNotFound, ""},
		{"no such digest", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 1)
			return subject{ref: s.ref("app@" + digest.FromString("gone").String())}
		}, ReasonNotFound, ""},
		{"digest is there", func(t *testing.T, s *server) subject {
			_, d := s.image(t, "app", "v1", host, 1)
			return subject{ref: s.ref("app:v9@" + d.Digest.String())}
		}, ReasonAvailable, ""},
		{"HEAD for manifests answers 405", with(func(w http.ResponseWriter, r *http.Request) bool {
			return head(w, r, "/manifests/", http.StatusMethodNotAllowed)
		}), ReasonAvailable, ""},
		{"HEAD for manifests answers 404", with(func(w http.ResponseWriter, r *http.Request) bool {
			return head(w, r, "/manifests/", http.StatusNotFound)
		}), ReasonAvailable, "containerd believes the answer to HEAD; most registries that give it are mirrors, and the next pull finds the image there"},
	}
}

// on answers requests whose path holds part.
func on(part string, do http.HandlerFunc) front {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		do(w, r)
		return true
	}
}

func status(code int, codes ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { refuse(w, code, codes...) }
}

// head answers HEAD requests whose path holds part.
func head(w http.ResponseWriter, r *http.Request, part string, code int) bool {
	if r.Method != http.MethodHead || !strings.Contains(r.URL.Path, part) {
		return false
	}
	w.WriteHeader(code)
	return true
}

// basic lets scott in.
func basic(w http.ResponseWriter, r *http.Request) bool {
	if name, password, _ := r.BasicAuth(); name == "scott" && password == "pa55" {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
	return true
}

// bearer lets in who brings the token t0ken, from the server's own token server.
func bearer(s *server, token func(http.ResponseWriter)) front {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			token(w)
			return true
		}
		if r.Header.Get("Authorization") == "Bearer t0ken" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, s.addr()))
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return true
	}
}
