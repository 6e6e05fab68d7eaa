package keychain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"edgecache.dev/api/imageref"
	"edgecache.dev/internal/pullscope"
)

// Keychain holds the credentials of one or more sources. The zero value is empty.
type Keychain struct {
	// rings are asked in turn and each adds its matches. Within a ring the
	// credentials are sorted.
	rings [][]Credential
}

// Of makes a Keychain of single credentials, as one source.
func Of(creds ...Credential) Keychain {
	if len(creds) == 0 {
		return Keychain{}
	}
	ring := slices.Clone(creds)
	slices.SortStableFunc(ring, func(a, b Credential) int { return cmp.Compare(b.pattern, a.pattern) })
	return Keychain{rings: [][]Credential{ring}}
}

// Union gives the matches of every Keychain, in the order given: those of the first
// come first, as a pod's Secrets come before the node's own docker configuration.
func Union(chains ...Keychain) Keychain {
	var all Keychain
	for _, k := range chains {
		all.rings = append(all.rings, k.rings...)
	}
	return all
}

// For gives every credential that matches the image, the one to try first in front.
// None means that the image is to be pulled anonymously.
func (k Keychain) For(ref imageref.Reference) []Credential { return k.ForRepository(ref.Name()) }

// ForRepository is For with a repository's name, "registry.example:5000/team/app". A
// mirror is asked for by its own name, so that it never sees the origin's credentials.
func (k Keychain) ForRepository(name string) []Credential {
	var found []Credential
	for _, ring := range k.rings {
		found = append(found, matches(ring, name)...)
	}
	return found
}

// Len gives the number of credentials.
func (k Keychain) Len() int {
	n := 0
	for _, ring := range k.rings {
		n += len(ring)
	}
	return n
}

// matches picks a ring's entries for name. The names under which Docker Hub is known
// count only when nothing matches by itself.
func matches(ring []Credential, name string) []Credential {
	var found, hub []Credential
	for _, c := range ring {
		switch {
		case pullscope.Covers(c.pattern, name):
			found = append(found, c)
		case pullscope.IsHub(c.pattern):
			hub = append(hub, c)
		}
	}
	if len(found) == 0 && pullscope.OnHub(name) {
		return hub
	}
	return found
}

// normalize brings a key of a docker configuration into the form host[:port][/path]. It
// gives "" for a key that no image can match.
func normalize(key string) string {
	if !strings.HasPrefix(key, "https://") && !strings.HasPrefix(key, "http://") {
		key = "https://" + key
	}
	u, err := url.Parse(key)
	if err != nil {
		return ""
	}
	path := u.Path
	if strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/v2/") {
		path = path[len("/v1"):]
	}
	if path == "/" {
		path = ""
	}
	return u.Host + path
}

// String says how many credentials there are.
func (k Keychain) String() string { return fmt.Sprintf("keychain of %d credentials", k.Len()) }

// GoString is String: %#v must not show fields.
func (k Keychain) GoString() string { return k.String() }

// Format prints String for every verb.
func (k Keychain) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalJSON gives String as a JSON string.
func (k Keychain) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }
