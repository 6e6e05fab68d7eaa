package program

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestEndpoints(t *testing.T) {
	t.Parallel()
	e := Endpoints{Health: func() error { return nil }, Ready: func() error { return errors.New("informers are not synced") }}
	for _, tc := range []struct {
		path      string
		profiling bool
		code      int
		body      string
	}{
		{"/healthz", false, http.StatusOK, "ok"},
		{"/readyz", false, http.StatusServiceUnavailable, "informers are not synced"},
		{"/metrics", false, http.StatusOK, "go_goroutines"},
		{"/debug/pprof/", false, http.StatusNotFound, ""},
		{"/debug/pprof/", true, http.StatusOK, "goroutine"},
		{"/", false, http.StatusNotFound, ""},
	} {
		e.Profiling = tc.profiling
		got := httptest.NewRecorder()
		e.Handler().ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, tc.path, nil))
		if got.Code != tc.code || !strings.Contains(got.Body.String(), tc.body) {
			t.Errorf("GET %s: %d %.200s, want %d with %q", tc.path, got.Code, got.Body, tc.code, tc.body)
		}
	}
}

func TestCheckAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"": "", ":8080": "", "127.0.0.1:0": "", "[::1]:10459": "", "localhost:65535": "",
		"10459": "must be host:port", "127.0.0.1": "must be host:port", "::1:10459": "must be host:port",
		"127.0.0.1:": `has the port ""`, ":http": `has the port "http"`, ":65536": `has the port "65536"`, "http://127.0.0.1:80": "must be host:port",
	} {
		if err := CheckAddress(address); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
}

func TestAnAddressInUseIsSaid(t *testing.T) {
	t.Parallel()
	ok := func() error { return nil }
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	e := Endpoints{Address: taken.Listener.Addr().String(), Health: ok, Ready: ok}
	if _, err := e.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "--serve-address") {
		t.Errorf("serving on an address in use: %v", err)
	}
	e.Address = "127.0.0.1:0"
	stop, err := e.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	e.Address = ""
	if stop, err = e.Serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
}
