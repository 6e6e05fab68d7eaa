package registry

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// tokenPath is where the proxy is a token server, outside the registry's API.
const tokenPath = "/token"

// Auth says which repositories want credentials.
type Auth struct {
	// Token makes clients fetch a bearer token with their credentials, as big registries do; else they send the
	// credentials themselves (Basic).
	Token bool
	// Protected are the rules; the longest matching prefix counts, repositories without one are open to all.
	Protected []Protected
}

// Protected is a group of repositories that one user may read.
type Protected struct {
	// Prefix is how the repositories' names begin: "private/".
	Prefix string
	// User and Password are the credentials.
	User     string
	Password string
}

// gate asks for credentials.
type gate struct {
	realm string // the token server's URL

	mu     sync.Mutex // guards what follows
	auth   *Auth
	tokens map[string]string // token → user, "" for anonymous
}

func (g *gate) set(auth *Auth) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.auth, g.tokens = auth, map[string]string{}
}

// check returns nil if r may pass, else the answer it gets.
func (g *gate) check(r *http.Request) *answer {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.auth == nil {
		return nil
	}
	if g.auth.Token && r.URL.Path == tokenPath {
		return g.issue(r)
	}
	who, known := g.identify(r)
	repository, _, _ := target(r.URL.Path)
	rule := g.rule(repository)
	switch {
	case r.URL.Path == "/v2/" && !known:
		// Clients learn from this answer how to identify themselves.
		return g.challenge(repository)
	case rule != nil && (!known || who != rule.User):
		return g.challenge(repository)
	default:
		return nil
	}
}

// rule returns the rule that protects repository, nil if it is open.
func (g *gate) rule(repository string) *Protected {
	var matching []*Protected
	for i := range g.auth.Protected {
		if p := &g.auth.Protected[i]; repository != "" && strings.HasPrefix(repository, p.Prefix) {
			matching = append(matching, p)
		}
	}
	if len(matching) == 0 {
		return nil
	}
	return slices.MaxFunc(matching, func(a, b *Protected) int { return cmp.Compare(len(a.Prefix), len(b.Prefix)) })
}

// identify returns whose credentials r carries.
func (g *gate) identify(r *http.Request) (user string, ok bool) {
	if !g.auth.Token {
		return g.basic(r)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return "", false
	}
	user, ok = g.tokens[token]
	return user, ok
}

func (g *gate) basic(r *http.Request) (user string, ok bool) {
	user, password, ok := r.BasicAuth()
	return user, ok && slices.ContainsFunc(g.auth.Protected, func(p Protected) bool {
		return p.User == user && p.Password == password
	})
}

// issue answers a request for a token: to known users and, for what is open to all, to anonymous ones. Only GET is
// understood; clients that try OAuth2's POST first fall back on 405.
func (g *gate) issue(r *http.Request) *answer {
	if r.Method != http.MethodGet {
		return newAnswer(http.StatusMethodNotAllowed, nil, "")
	}
	user, known := g.basic(r)
	if r.Header.Get("Authorization") != "" && !known {
		return newAnswer(http.StatusUnauthorized, nil, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
	}
	token := rand.Text()
	g.tokens[token] = user
	body, _ := json.Marshal(map[string]any{"token": token, "access_token": token, "expires_in": 300})
	return newAnswer(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, string(body))
}

func (g *gate) challenge(repository string) *answer {
	how := `Basic realm="lab"`
	if g.auth.Token {
		how = fmt.Sprintf(`Bearer realm="%s",service="lab"`, g.realm)
		if repository != "" {
			how += fmt.Sprintf(`,scope="repository:%s:pull"`, repository)
		}
	}
	header := http.Header{"Www-Authenticate": {how}, "Content-Type": {"application/json"}}
	return newAnswer(http.StatusUnauthorized, header, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
}
