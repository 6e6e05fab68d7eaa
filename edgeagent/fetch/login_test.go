package fetch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
)

// offer gives the same logins to everybody who asks.
func offer(logins ...fetch.Login) func(imageref.Reference, string) ([]fetch.Login, error) {
	return func(imageref.Reference, string) ([]fetch.Login, error) { return logins, nil }
}

// hiding says of what somebody may not see that it is not there.
func (f *fixture) hiding(secret string) {
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, req *http.Request) bool {
		_, got, ok := req.BasicAuth()
		switch {
		case !ok:
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		case got != secret:
			w.WriteHeader(http.StatusNotFound)
		}
		return got != secret
	}})
}

func TestLoginsTakeTurns(t *testing.T) {
	t.Parallel()
	right, wrong := fetch.Login{User: "u", Secret: "s3cret"}, fetch.Login{User: "u", Secret: "wr0ng"}
	tests := map[string]struct {
		logins []fetch.Login
		want   fetch.Reason // "" for success
	}{
		"the first is right":  {[]fetch.Login{right, wrong}, ""},
		"the last is right":   {[]fetch.Login{wrong, {User: "other", Secret: "wr0ng"}, right}, ""},
		"the same ones twice": {[]fetch.Login{wrong, wrong, right}, ""},
		"anonymous first":     {[]fetch.Login{{}, right}, ""},
		"none is right":       {[]fetch.Login{wrong, wrong}, fetch.Unauthorized},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			d, _ := simple(t, f.reg)
			f.reg.Set(fetchtest.Faults{User: "u", Secret: "s3cret"})
			f.opts.Credentials = offer(tc.logins...)
			if _, err := f.pull(t, d); tc.want != "" {
				_ = reason(t, err, tc.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLoginsTakeTurnsAtTokenServers: the token server is who refuses there.
func TestLoginsTakeTurnsAtTokenServers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	newTokenServer(t, f.reg)
	f.opts.Credentials = offer(fetch.Login{User: "u", Secret: "wr0ng"}, fetch.Login{User: "u", Secret: "s3cret"})
	if _, err := f.pull(t, d); err != nil {
		t.Error(err)
	}
}

// TestFirstLoginIsToBlame: it is the one that the image is meant to be pulled with.
func TestFirstLoginIsToBlame(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	f.hiding("s3cret")
	f.opts.Credentials = offer(fetch.Login{User: "u", Secret: "wr0ng"}, fetch.Login{User: "u", Secret: "s3cret"})
	if _, err := f.pull(t, d); err != nil {
		t.Errorf("what the first login may not see: %v", err)
	}
	f.opts.Credentials = offer(fetch.Login{}, fetch.Login{User: "u", Secret: "wr0ng"})
	g := newFixture(t)
	g.reg, g.opts = f.reg, f.opts
	_, err := g.pull(t, d)
	_ = reason(t, err, fetch.Unauthorized)
}

// TestManyBlobsAtOnceAndALoginThatIsWithdrawn: the next one takes over for all of them.
func TestManyBlobsAtOnceAndALoginThatIsWithdrawn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	img := fetchtest.Image(t, node, fetchtest.Layer(t, 1, 50_000), fetchtest.Layer(t, 2, 50_000), fetchtest.Layer(t, 3, 50_000), fetchtest.Layer(t, 4, 50_000))
	d := f.reg.Push(t, "app:v1", img)
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, req *http.Request) bool {
		_, got, _ := req.BasicAuth()
		if got == "2" || got == "1" && strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}})
	f.opts.Credentials = offer(fetch.Login{User: "u", Secret: "1"}, fetch.Login{User: "u", Secret: "2"})
	if _, err := f.puller(fetch.Options{Parallel: 4}).Image(t.Context(), f.want(t, d), nil); err != nil {
		t.Error(err)
	}
	f.has(t, fetchtest.Blobs(t, img)...)
}

// TestReplacedLoginIsFound: a pull that lasts for days outlives the password it began with.
func TestReplacedLoginIsFound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.reg.Push(t, "app:v1", fetchtest.Image(t, node, fetchtest.Layer(t, 1, 300_000)))
	var mu sync.Mutex
	now := "old"
	f.opts.Credentials = func(imageref.Reference, string) ([]fetch.Login, error) {
		mu.Lock()
		defer mu.Unlock()
		return []fetch.Login{{User: "u", Secret: now}}, nil
	}
	f.reg.Set(fetchtest.Faults{User: "u", Secret: "old"})
	replaced := false
	_, err := f.puller(fetch.Options{Parallel: 1}).Image(t.Context(), f.want(t, d), func(fetch.Progress) {
		if !replaced {
			mu.Lock()
			now = "new"
			mu.Unlock()
			f.reg.Set(fetchtest.Faults{User: "u", Secret: "new"})
			replaced = true
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRegistryToken: it is sent as it is, to who asked for it, and not before.
func TestRegistryToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, _ := simple(t, f.reg)
	f.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, req *http.Request) bool {
		if req.Header.Get("Authorization") == "Bearer s3cret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://127.0.0.1:1/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}})
	f.opts.Credentials = offer(fetch.Login{Token: "wr0ng"}, fetch.Login{Token: "s3cret"})
	if _, err := f.pull(t, d); err != nil {
		t.Error(err)
	}
	if got := f.reg.Requests()[0].Header.Get("Authorization"); got != "" {
		t.Errorf("sent %q before it was asked for", got)
	}
	f.opts.Credentials = offer(fetch.Login{Token: "wr0ng"})
	g := newFixture(t)
	g.reg, g.opts = f.reg, f.opts
	_, err := g.pull(t, d)
	_ = reason(t, err, fetch.Unauthorized)
}

// TestMirrorsAreAskedAbout: each host has logins of its own, and those of the registry go
// to no mirror.
func TestMirrorsAreAskedAbout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mirror := fetchtest.NewRegistry(t)
	want := f.behind(t, f.reg.Host, mirror)
	want.Digest, _ = simple(t, f.reg)
	simple(t, mirror)
	mirror.Set(fetchtest.Faults{User: "m", Secret: "of-the-mirror"})
	f.reg.Set(fetchtest.Faults{User: "u", Secret: "s3cret"})
	f.opts.Credentials = func(_ imageref.Reference, host string) ([]fetch.Login, error) {
		if host == f.reg.Host {
			return []fetch.Login{{User: "u", Secret: "s3cret"}}, nil
		}
		return nil, errors.New("none for " + host)
	}
	if _, err := f.puller(fetch.Options{}).Image(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	if len(mirror.Requests()) == 0 || slices.ContainsFunc(mirror.Requests(), func(r *http.Request) bool { return r.Header.Get("Authorization") != "" }) {
		t.Errorf("the mirror was sent %d requests, or a login", len(mirror.Requests()))
	}
}

func TestLoginsAreNotPrinted(t *testing.T) {
	t.Parallel()
	l := fetch.Login{User: "us3r", Secret: "s3cret", Token: "t0ken"}
	b, err := json.Marshal(map[string]any{"login": l, "logins": []fetch.Login{l}})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	text.Write(b)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, v := range []any{l, &l, []fetch.Login{l}, struct{ L fetch.Login }{l}} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
	}
	for _, s := range []string{l.User, l.Secret, l.Token, fmt.Sprintf("%x", l.Secret)} {
		if strings.Contains(text.String(), s) {
			t.Errorf("%q is printed: %s", s, text.String())
		}
	}
}
