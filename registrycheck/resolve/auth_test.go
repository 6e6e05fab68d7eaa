package resolve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

const password = "pa55-w0rd"

// basic lets in the users whose password is right.
func basic(users ...string) front {
	return func(w http.ResponseWriter, r *http.Request) bool {
		name, pass, ok := r.BasicAuth()
		if ok && pass == password && slices.Contains(users, name) {
			return false
		}
		challenge(`Basic realm="test"`)(w, r)
		return true
	}
}

// tokenServer gives users of basic authentication a token that says who they are;
// anonymous users get one for "".
type tokenServer struct {
	realm string
	// allowed are the users that get a token.
	allowed []string
	// readers are the users whose token opens the registry.
	readers []string
}

const tokenPrefix = "t0ken-of-"

// serve answers token requests under /token of the same host.
func (ts *tokenServer) serve(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/token" {
		return false
	}
	name, pass, ok := r.BasicAuth()
	if r.Method == http.MethodPost && r.FormValue("refresh_token") == "identity-"+password {
		name, pass, ok = "oauth", password, true
	}
	if ok && pass != password || !slices.Contains(ts.allowed, name) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"details":"incorrect %s"}`, pass)
		return true
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": tokenPrefix + name, "access_token": tokenPrefix + name})
	return true
}

// guard lets requests with a reader's token through and names the realm to others.
func (ts *tokenServer) guard(w http.ResponseWriter, r *http.Request) bool {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "+tokenPrefix)
	if ok && slices.Contains(ts.readers, name) {
		return false
	}
	if ok && r.URL.Path != "/v2/" {
		answer(w, http.StatusForbidden, "DENIED")
		return true
	}
	challenge(fmt.Sprintf(`Bearer realm=%q,service="registry.test"`, ts.realm))(w, r)
	return true
}

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	right, wrong := user("registry.test", "right", password), user("registry.test", "wrong", "pa55-0ther")
	tests := map[string]struct {
		keys    keychain.Keychain
		message string // of the error, "" for none
	}{
		"right":                 {keychain.Of(right), ""},
		"second is right":       {keychain.Of(wrong, right), ""},
		"wrong":                 {keychain.Of(wrong), "not given to any of 1 matching credentials, the last one: credential for registry.test"},
		"two wrong":             {keychain.Of(wrong, user("*.test", "third", "pa55-third")), "any of 2 matching credentials"},
		"none":                  {anonymous, "not given to anonymous users"},
		"for another registry":  {keychain.Of(user("other.test", "right", password)), "not given to anonymous users"},
		"for another path":      {keychain.Of(user("registry.test/team", "right", password)), "not given to anonymous users"},
		"empty entry":           {keychain.Of(user("registry.test", "", "")), "not given to anonymous users"},
		"right after the empty": {keychain.Of(user("registry.test", "", ""), right), ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := one(t, basic("right"))
			want := s.push(t, "app:v1", indexOf(t, "linux/amd64", "linux/arm64"))
			got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), tc.keys)
			if tc.message != "" {
				wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized, tc.message)
				return
			}
			if err != nil || got.Digest != want {
				t.Errorf("Resolve = %s, %v, want %s", got.Digest, err, want)
			}
		})
	}
}

// TestNoAnonymousFallback: the kubelet pulls anonymously only where no credential
// matches, so a public image with a bad credential does not pull there either.
func TestNoAnonymousFallback(t *testing.T) {
	t.Parallel()
	ts := &tokenServer{realm: "http://registry.test/token", allowed: []string{""}, readers: []string{""}}
	s, r := one(t, ts.serve, ts.guard)
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), keychain.Of(user("registry.test", "scott", "pa55-bad")))
	wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized, "any of 1 matching credentials")
	if _, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous); err != nil {
		t.Errorf("anonymously: %v", err)
	}
}

func TestBearerTokens(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		auth    authn.AuthConfig
		message string // of the error, "" for none
	}{
		"user":                  {authn.AuthConfig{Username: "reader", Password: password}, ""},
		"identity token":        {authn.AuthConfig{IdentityToken: "identity-" + password}, ""},
		"registry token":        {authn.AuthConfig{RegistryToken: tokenPrefix + "reader"}, ""},
		"bad password":          {authn.AuthConfig{Username: "reader", Password: "pa55-bad"}, "logging in at registry.test/token: 401"},
		"bad identity token":    {authn.AuthConfig{IdentityToken: "pa55-bad"}, "logging in at registry.test/token: 401"},
		"user without the pull": {authn.AuthConfig{Username: "stranger", Password: password}, "403 Forbidden DENIED"},
		"bad registry token":    {authn.AuthConfig{RegistryToken: "t0ken-of-nobody"}, "403 Forbidden DENIED"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := &tokenServer{realm: "http://registry.test/token", allowed: []string{"reader", "stranger", "oauth"}, readers: []string{"reader", "oauth"}}
			s, r := one(t, ts.serve, ts.guard)
			want := s.push(t, "team/app:v1", indexOf(t, "linux/amd64", "linux/arm64"))
			keys := keychain.Of(keychain.New("registry.test", tc.auth))
			got, err := r.Resolve(t.Context(), ref(t, "registry.test/team/app:v1"), keys)
			if tc.message != "" {
				wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized, tc.message)
				return
			}
			if err != nil || got.Digest != want {
				t.Fatalf("Resolve = %s, %v, want %s", got.Digest, err, want)
			}
			s.took()
			// The next call finds the token of the first.
			if _, err := r.Digest(t.Context(), ref(t, "registry.test/team/app:v1"), keys); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"HEAD /v2/team/app/manifests/v1"}, s.took()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFirstLoginAsksForOneScope: the token is for pulling from the one repository.
func TestFirstLoginAsksForOneScope(t *testing.T) {
	t.Parallel()
	ts := &tokenServer{realm: "http://registry.test/token", allowed: []string{""}, readers: []string{""}}
	s, r := one(t, ts.serve, ts.guard)
	s.push(t, "team/app:v1", image(t, "linux/amd64", 1))
	if _, err := r.Digest(t.Context(), ref(t, "registry.test/team/app:v1"), anonymous); err != nil {
		t.Fatal(err)
	}
	want := []string{"GET /v2/", "GET /token?scope=repository%3Ateam%2Fapp%3Apull&service=registry.test", "HEAD /v2/team/app/manifests/v1"}
	if diff := cmp.Diff(want, s.took()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestExpiredTokenIsRenewed within the session, at the cost of one try and one token.
func TestExpiredTokenIsRenewed(t *testing.T) {
	t.Parallel()
	expired := false
	ts := &tokenServer{realm: "http://registry.test/token", allowed: []string{""}, readers: []string{""}}
	s, r := one(t, ts.serve, func(w http.ResponseWriter, r *http.Request) bool {
		if expired && r.URL.Path != "/v2/" {
			expired = false
			challenge(`Bearer realm="http://registry.test/token",service="registry.test",error="invalid_token"`)(w, r)
			return true
		}
		return ts.guard(w, r)
	})
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	for range 2 {
		if _, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous); err != nil {
			t.Fatal(err)
		}
		expired = true
	}
	if n := s.count("GET /token"); n != 2 {
		t.Errorf("%d tokens, want 2", n)
	}
}

func TestWrongRealm(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		realm  string
		reason string
		want   string
	}{
		"gives 404":          {"http://registry.test/wrong", v1alpha1.ReasonRegistryError, "404"},
		"no JSON":            {"http://registry.test/html", v1alpha1.ReasonRegistryError, "gave an answer that makes no sense"},
		"no token":           {"http://registry.test/empty", v1alpha1.ReasonRegistryError, "no token in the token server's answer"},
		"server error":       {"http://registry.test/down", v1alpha1.ReasonRegistryError, "502"},
		"loop":               {"http://registry.test/loop", v1alpha1.ReasonRegistryError, "stopped after 10 redirects"},
		"file":               {"file:///etc/passwd", v1alpha1.ReasonRegistryError, "not allowed"},
		"metadata service":   {"http://169.254.169.254/t0ken", v1alpha1.ReasonRegistryError, "link-local"},
		"not a URL":          {"http://[", v1alpha1.ReasonRegistryError, "parsing realm"},
		"closed, other host": {"https://gone.test/", v1alpha1.ReasonNetworkError, "host gone.test is not known to DNS"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := &tokenServer{realm: tc.realm}
			pages := func(w http.ResponseWriter, r *http.Request) bool {
				switch r.URL.Path {
				case "/wrong":
					http.NotFound(w, r)
				case "/html":
					fmt.Fprint(w, "<html>")
				case "/empty":
					fmt.Fprint(w, `{"refresh_token":"t0ken-refresh"}`)
				case "/down":
					w.WriteHeader(http.StatusBadGateway)
				case "/loop":
					http.Redirect(w, r, "/loop?t0ken=1", http.StatusFound)
				default:
					return false
				}
				return true
			}
			_, r := one(t, pages, ts.guard)
			keys := keychain.Of(user("registry.test", "reader", password))
			_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), keys)
			wantError(t, err, v1alpha1.VerdictInconclusive, tc.reason, tc.want)
		})
	}
}

// TestCredentialsAreTriedInOrder and that what every one of them said decides.
func TestCredentialsAreTriedInOrder(t *testing.T) {
	t.Parallel()
	// The user's name says what the registry answers.
	says := func(w http.ResponseWriter, r *http.Request) bool {
		name, _, ok := r.BasicAuth()
		if r.URL.Path == "/v2/" || !ok {
			challenge(`Basic realm="test"`)(w, r)
			return true
		}
		switch strings.TrimRight(name, "12") {
		case "refused":
			answer(w, http.StatusUnauthorized, "UNAUTHORIZED")
		case "absent":
			answer(w, http.StatusNotFound, "NAME_UNKNOWN")
		case "limited":
			answer(w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
		case "broken":
			answer(w, http.StatusNotImplemented)
		default:
			return false
		}
		return true
	}
	tests := map[string]struct {
		users []string
		want  string // reason, "" for success
		asked int    // users asked
	}{
		"first is good":              {[]string{"good", "refused"}, "", 1},
		"refused, then good":         {[]string{"refused", "good"}, "", 2},
		"absent, then good":          {[]string{"absent", "good"}, "", 2},
		"limited, then good":         {[]string{"limited", "good"}, "", 2},
		"all kinds, then good":       {[]string{"refused", "absent", "limited", "good"}, "", 4},
		"all refused":                {[]string{"refused1", "refused2"}, v1alpha1.ReasonUnauthorized, 2},
		"absent counts over refused": {[]string{"refused1", "absent", "refused2"}, v1alpha1.ReasonNotFound, 3},
		"limited counts most":        {[]string{"absent", "limited", "refused"}, v1alpha1.ReasonRateLimited, 3},
		"a broken registry ends it":  {[]string{"broken", "good"}, v1alpha1.ReasonRegistryError, 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := one(t, says)
			s.push(t, "app:v1", image(t, "linux/amd64", 1))
			var creds []keychain.Credential
			for _, u := range tc.users {
				creds = append(creds, user("registry.test", u, password))
			}
			_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), keychain.Of(creds...))
			if tc.want == "" && err != nil {
				t.Errorf("error = %v", err)
			}
			if tc.want != "" {
				verdict := v1alpha1.VerdictNotPullable
				if tc.want == v1alpha1.ReasonRateLimited || tc.want == v1alpha1.ReasonRegistryError {
					verdict = v1alpha1.VerdictInconclusive
				}
				wantError(t, err, verdict, tc.want, "")
			}
			if n := s.count("GET /v2/app/manifests/v1"); n != tc.asked {
				t.Errorf("asked as %d users, want %d", n, tc.asked)
			}
		})
	}
}

// TestTheCredentialThatWorkedComesFirst so that a refresh stays one request.
func TestTheCredentialThatWorkedComesFirst(t *testing.T) {
	t.Parallel()
	s, r := one(t, basic("right"))
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	keys := keychain.Of(user("registry.test", "wrong", password), user("registry.test", "right", password))
	for i := range 2 {
		if _, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), keys); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.took()
		}
	}
	if diff := cmp.Diff([]string{"HEAD /v2/app/manifests/v1"}, s.took()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	// Who has only the wrong one gets nothing from the other's session.
	_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), keychain.Of(user("registry.test", "wrong", password)))
	wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized, "")
	_, err = r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	wantError(t, err, v1alpha1.VerdictNotPullable, v1alpha1.ReasonUnauthorized, "anonymous")
}

// TestCredentialsStayWithTheirHost: neither token servers beyond the named one, nor
// blob stores, nor mirrors see them.
func TestCredentialsStayWithTheirHost(t *testing.T) {
	t.Parallel()
	store := newServer(t) // where blobs are redirected to
	ts := &tokenServer{realm: "http://registry.test/token", allowed: []string{"reader"}, readers: []string{"reader"}}
	s := newServer(t, ts.serve, ts.guard, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "http://store.test"+r.URL.Path+"?sig=s1gned", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	mirror := newServer(t)
	settings := plain("registry.test", "store.test")
	settings.Registries[0].Mirrors = []string{"http://mirror.test"}
	r := newResolver(t, settings, names{"registry.test": s, "store.test": store, "mirror.test": mirror})
	img := image(t, "linux/amd64", 1)
	s.push(t, "app:v1", img)
	store.push(t, "app:v1", img)

	keys := keychain.Of(user("registry.test", "reader", password))
	if _, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), keys); err != nil {
		t.Fatal(err)
	}
	if store.count("GET /v2/app/blobs/") != 1 || mirror.count("GET") == 0 {
		t.Fatalf("store got %q, mirror got %q", store.took(), mirror.took())
	}
	for name, other := range map[string]*server{"store": store, "mirror": mirror} {
		for _, header := range []string{"Authorization", "Cookie"} {
			if sent := other.sent(header); len(sent) != 0 {
				t.Errorf("%s got %s %q", name, header, sent)
			}
		}
	}
	// The password goes to the token server alone, the token to the registry.
	for _, value := range s.sent("Authorization") {
		if !strings.HasPrefix(value, "Basic ") && value != "Bearer "+tokenPrefix+"reader" {
			t.Errorf("registry got %q", value)
		}
	}
}

// TestMirrorsHaveTheirOwnCredentials, looked up by the mirror's host and path.
func TestMirrorsHaveTheirOwnCredentials(t *testing.T) {
	t.Parallel()
	mirror := newServer(t, basic("mirror-user"))
	origin := newServer(t, basic("origin-user"))
	settings := access.Settings{Registries: []access.Registry{{Hosts: []string{"registry.test"}, PlainHTTP: true, Mirrors: []string{"http://mirror.test/hub"}}}}
	r := newResolver(t, settings, names{"registry.test": origin, "mirror.test": mirror})
	want := mirror.push(t, "hub/app:v1", image(t, "linux/amd64", 1))
	keys := keychain.Of(user("registry.test", "origin-user", password), user("mirror.test/hub", "mirror-user", password))
	got, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), keys)
	if err != nil || got.Digest != want || got.Host != "mirror.test" {
		t.Errorf("Resolve = %s from %q, %v, want %s", got.Digest, got.Host, err, want)
	}
	if reqs := origin.took(); len(reqs) != 0 {
		t.Errorf("origin got %q", reqs)
	}
}

// TestSecretsOfDeadServersStayHidden: text of net/http repeats URLs.
func TestSecretsOfDeadServersStayHidden(t *testing.T) {
	t.Parallel()
	s := newServer(t, on("/blobs/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://user:pa55@gone.test/x?X-Amz-Signature=s1gned", http.StatusFound)
	}))
	r := newResolver(t, plain("registry.test", "gone.test"), names{"registry.test": s})
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	e := judged(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonNetworkError, "host gone.test is not known to DNS")
	if e.Host != "gone.test" {
		t.Errorf("Host = %q, want gone.test", e.Host)
	}
}

// TestBlobStoreThatRefuses is no question of the user's rights.
func TestBlobStoreThatRefuses(t *testing.T) {
	t.Parallel()
	store := newServer(t, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return true })
	s := newServer(t, on("/blobs/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://store.test/x?sig=s1gned", http.StatusFound)
	}))
	r := newResolver(t, plain("registry.test", "store.test"), names{"registry.test": s, "store.test": store})
	s.push(t, "app:v1", image(t, "linux/amd64", 1))
	_, err := r.Resolve(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonRegistryError, "store.test, where registry.test keeps its data, answers 403")
}

// TestSlowTokenServer ends with the timeout, not with that of the library.
func TestSlowTokenServer(t *testing.T) {
	t.Parallel()
	ts := &tokenServer{realm: "http://registry.test/slow"}
	s := newServer(t, on("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), ts.guard)
	settings := plain("registry.test")
	settings.Timeout = time.Second
	r := newResolver(t, settings, names{"registry.test": s})
	_, err := r.Digest(t.Context(), ref(t, "registry.test/app:v1"), anonymous)
	wantError(t, err, v1alpha1.VerdictInconclusive, v1alpha1.ReasonNetworkError, "did not answer in time")
}
