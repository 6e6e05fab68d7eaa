package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/keyring"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/seal"
)

// shown makes logins comparable and readable.
func shown(logins []fetch.Login) (all []string) {
	for _, l := range logins {
		all = append(all, l.User+" "+l.Secret+" "+l.Token)
	}
	return all
}

// ring has credentials for r.example/sealed/app:v1, one for the host and one for a path.
func ring(t *testing.T) *keyring.Ring {
	t.Helper()
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	var spec v1alpha1.NodeImageCacheSpec
	for id, match := range map[string]string{"a": "r.example/sealed", "b": "r.example"} {
		b, err := seal.Seal(key.Recipient(), seal.Payload{Match: match, NodeUID: "n", Auth: seal.Auth{Username: id, Password: "5"}})
		if err != nil {
			t.Fatal(err)
		}
		spec.Credentials = append(spec.Credentials, v1alpha1.SealedCredential{ID: id, Match: match, KeyID: key.ID(), Sealed: b})
	}
	spec.Images = []v1alpha1.NodeImage{{Name: "r.example/sealed/app:v1", CredentialIDs: []string{"b", "a"}}}
	r := keyring.New(key)
	r.Hear(store.Desired{NodeUID: "n", Spec: spec})
	return r
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	login := credentials(ring(t), dockerConfig(t, `{"auths": {
		"r.example": {"username": "all", "password": "1"},
		"r.example/team": {"username": "team", "password": "2"},
		"mirror.example": {"username": "mirror", "password": "6"},
		"https://index.docker.io/v1/": {"username": "hub", "password": "3"},
		"token.example": {"identitytoken": "4"},
		"bearer.example": {"registrytoken": "7"}
	}}`), nil)
	tests := map[string]struct {
		image, host string
		want        []string
	}{
		"a registry":                       {"r.example/app:v1", "r.example", []string{"all 1 "}},
		"the most specific path first":     {"r.example/team/app:v1", "r.example", []string{"team 2 ", "all 1 "}},
		"sealed ones before the node's":    {"r.example/sealed/app:v1", "r.example", []string{"b 5 ", "a 5 ", "all 1 "}},
		"a mirror gets its own":            {"r.example/sealed/app:v1", "mirror.example", []string{"mirror 6 "}},
		"Docker Hub under its API host":    {"nginx:1", dockerHub, []string{"hub 3 "}},
		"Docker Hub as images name it":     {"nginx:1", "docker.io", []string{"hub 3 "}},
		"an identity token":                {"token.example/app:v1", "token.example", []string{" 4 "}},
		"a registry token":                 {"bearer.example/app:v1", "bearer.example", []string{"  7"}},
		"a mirror gets nothing of others":  {"r.example/app:v1", "other.example", nil},
		"a registry that nothing is known": {"other.example/app:v1", "other.example", nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := login(mustParse(t, tc.image), tc.host)
			if diff := cmp.Diff(tc.want, shown(got)); err != nil || diff != "" {
				t.Errorf("%v, logins (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestCredentialsAreReadAnew(t *testing.T) {
	t.Parallel()
	file := dockerConfig(t, `{"auths": {"r.example": {"username": "first", "password": "9"}}}`)
	login, ref := credentials(ring(t), file, nil), mustParse(t, "r.example/app:v1")
	for _, want := range []string{"first 9 ", "rotated 9 "} {
		if got, err := login(ref, "r.example"); err != nil || !cmp.Equal(shown(got), []string{want}) {
			t.Errorf("%q, %v, want %q", shown(got), err, want)
		}
		write(t, file, `{"auths": {"r.example": {"username": "rotated", "password": "9"}}}`)
	}
	write(t, file, `{"auths": {"r.example": {"auth": "s3cret"}}}`)
	if _, err := login(ref, "r.example"); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a broken file: %v, want an error without the secret", err)
	}
	if got, _ := login(mustParse(t, "r.example/sealed/app:v1"), "r.example"); len(got) != 2 {
		t.Errorf("a broken file: %d logins of those that are sealed, want 2", len(got))
	}
}

func TestNoCredentials(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"", filepath.Join(t.TempDir(), "none.json")} {
		got, err := credentials(ring(t), file, nil)(mustParse(t, "r.example/app:v1"), "r.example")
		if len(got) != 0 || err != nil {
			t.Errorf("with file %q: %q, %v", file, shown(got), err)
		}
	}
}
