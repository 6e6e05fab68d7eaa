package resolve

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edgecache.dev/api/v1alpha1"
)

func TestRateLimit(t *testing.T) {
	t.Parallel()
	limited := func(after string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", "Mon, 23 Nov 2026 10:00:00 GMT")
			if after != "" {
				w.Header().Set("Retry-After", after)
			}
			answer(w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
		}
	}
	tests := map[string]struct {
		where, after string
		want         time.Duration
	}{
		"seconds":             {"/manifests/", "120", 2 * time.Minute},
		"at /v2/":             {"/v2/", "7", 7 * time.Second},
		"at a blob":           {"/blobs/", "7", 7 * time.Second},
		"date":                {"/manifests/", "Mon, 23 Nov 2026 10:05:00 GMT", 5 * time.Minute},
		"date that is past":   {"/manifests/", "Mon, 23 Nov 2026 09:00:00 GMT", 0},
		"nothing":             {"/manifests/", "", 0},
		"nonsense":            {"/manifests/", "soon", 0},
		"negative":            {"/manifests/", "-5", 0},
		"longer than a day":   {"/manifests/", "999999", 24 * time.Hour},
		"longer than a month": {"/manifests/", "2147483647", 24 * time.Hour},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := one(t, on(tc.where, limited(tc.after)))
			s.push(t, "app:v1", image(t, "linux/amd64", 1))
			start := time.Now()
			_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
			e := judged(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonRateLimited, "registry.test answers 429 Too Many Requests")
			if e.RetryAfter != tc.want {
				t.Errorf("RetryAfter = %s, want %s", e.RetryAfter, tc.want)
			}
			if !strings.Contains(e.Message, "told TOOMANYREQUESTS") {
				t.Errorf("message %q does not repeat the registry's", e.Message)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("waited %s", took)
			}
			if n := s.count("GET " + map[bool]string{true: "/v2/app" + tc.where, false: "/v2/"}[tc.where != "/v2/"]); n != 1 {
				t.Errorf("asked %d times, want once", n)
			}
		})
	}
	t.Run("503 with Retry-After", func(t *testing.T) {
		t.Parallel()
		s, r := one(t, on("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
		e := judged(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonRegistryError, "503")
		if e.RetryAfter != 30*time.Second || s.count("HEAD") != 1 {
			t.Errorf("RetryAfter = %s after %d requests", e.RetryAfter, s.count("HEAD"))
		}
	})
}

func TestShortDisturbancesAreTriedAgain(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]http.HandlerFunc{
		"502":                status(502),
		"500":                status(500),
		"503":                status(503),
		"connection dropped": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var failures atomic.Int32
			s, r := one(t, func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.Contains(req.URL.Path, "/manifests/") || failures.Add(1) > 2 {
					return false
				}
				fault(w, req)
				return true
			})
			want := s.push(t, "app:v1", image(t, "linux/amd64", 1))
			got, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
			if err != nil || got != want {
				t.Errorf("Digest = %s, %v, want %s", got, err, want)
			}
		})
	}
}

// TestEndsWithTheDeadline: the pauses between tries do not go past it.
func TestEndsWithTheDeadline(t *testing.T) {
	t.Parallel()
	s := newServer(t, on("/v2/", status(502)))
	settings := plain("registry.test")
	settings.Timeout = time.Second
	r := newResolver(t, settings, names{"registry.test": s})
	start := time.Now()
	_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonRegistryError, "502")
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
}
