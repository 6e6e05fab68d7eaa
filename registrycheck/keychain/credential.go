package keychain

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Source says which Secret a credential comes from. The zero value is a file.
type Source struct {
	Namespace, Name string
	// ResourceVersion changes with every edit of the Secret.
	ResourceVersion string
}

// Credential is one entry of a Keychain. Printing it in any way shows what it is for,
// never what it holds. The zero value is the anonymous user.
type Credential struct {
	pattern string
	source  Source
	// auth is a function because fmt calls no methods on unexported fields of other
	// types: of a function it prints an address whatever the verb, while it follows a
	// pointer for %s and %q. nil is the anonymous user.
	auth func() authn.AuthConfig
}

var _ authn.Authenticator = Credential{}

// New makes a credential for the registries that pattern stands for, from parts that
// the caller holds.
func New(pattern string, auth authn.AuthConfig) Credential {
	return Credential{pattern: normalize(pattern), auth: keep(auth)}
}

// keep hides auth where nothing that prints values can see it.
func keep(auth authn.AuthConfig) func() authn.AuthConfig {
	return func() authn.AuthConfig { return auth }
}

// Pattern gives the host[:port][/path] that the credential is for.
func (c Credential) Pattern() string { return c.pattern }

// Source gives the Secret that the credential comes from.
func (c Credential) Source() Source { return c.source }

// Anonymous says whether there is nothing in it to log in with.
func (c Credential) Anonymous() bool { return c.auth == nil || c.auth() == authn.AuthConfig{} }

// Authorization gives the secret itself. It never fails; the error is there for
// go-containerregistry's Authenticator interface.
func (c Credential) Authorization() (*authn.AuthConfig, error) {
	if c.auth == nil {
		return &authn.AuthConfig{}, nil
	}
	return new(c.auth()), nil
}

// Equal says whether two credentials log in the same way, wherever they come from.
func (c Credential) Equal(other Credential) bool {
	a, _ := c.Authorization() // never fails
	b, _ := other.Authorization()
	return *a == *b
}

// String says what the credential is for: "credential for registry.example/team from
// Secret retail/regcred".
func (c Credential) String() string {
	switch {
	case c.auth == nil:
		return "anonymous"
	case c.source == Source{}:
		return "credential for " + c.pattern
	}
	return "credential for " + c.pattern + " from Secret " + c.source.Namespace + "/" + c.source.Name
}

// GoString is String: %#v must not show fields.
func (c Credential) GoString() string { return c.String() }

// Format prints String for every verb.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON gives String as a JSON string.
func (c Credential) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }
