package keyring

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/pullscope"
	"edgecache.dev/internal/seal"
)

// Registry names of Docker Hub: in references, and the host that serves it.
const (
	dockerHub    = "docker.io"
	dockerHubAPI = "registry-1.docker.io"
)

// Ring holds what is sealed to one key. Make it with New.
type Ring struct {
	key *seal.Key

	mu     sync.Mutex          // guards what follows
	images map[string][]sealed // by name, in the order to try
	failed map[string]failure  // by id
}

// sealed is a credential as the wish has it.
type sealed struct {
	v1alpha1.SealedCredential

	nodeUID string // for which it must have been sealed
}

// same says whether opening gives the same.
func (s sealed) same(t sealed) bool {
	return s.ID == t.ID && s.Match == t.Match && s.nodeUID == t.nodeUID && bytes.Equal(s.Sealed, t.Sealed)
}

// failure is a credential that could not be opened.
type failure struct {
	of  sealed
	err error
}

// New makes a ring that knows of no credential yet.
func New(key *seal.Key) *Ring {
	return &Ring{key: key, images: map[string][]sealed{}, failed: map[string]failure{}}
}

// Key is the public key, for the status.
func (r *Ring) Key() v1alpha1.NodeKey {
	return v1alpha1.NodeKey{ID: r.key.ID(), Recipient: r.key.Recipient()}
}

// Hear takes in the wish. It gives the images that have other credentials than before,
// sorted: what was refused may be given now.
func (r *Ring) Hear(d store.Desired) (changed []string) {
	images := map[string][]sealed{}
	assign(images, d.Held, d.HeldCredentials, d.HeldNodeUID)
	assign(images, d.Spec.Images, d.Spec.Credentials, d.NodeUID)
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, now := range images {
		if !slices.EqualFunc(now, r.images[name], sealed.same) {
			changed = append(changed, name)
		}
	}
	for name := range r.images {
		if _, ok := images[name]; !ok {
			changed = append(changed, name)
		}
	}
	r.images = images
	maps.DeleteFunc(r.failed, func(_ string, f failure) bool { return !wanted(images, f.of) })
	slices.Sort(changed)
	return changed
}

// assign gives images their credentials.
func assign(to map[string][]sealed, images []v1alpha1.NodeImage, credentials []v1alpha1.SealedCredential, nodeUID string) {
	byID := make(map[string]sealed, len(credentials))
	for _, c := range credentials {
		byID[c.ID] = sealed{c, nodeUID}
	}
	for i := range images {
		delete(to, images[i].Name)
		for _, id := range images[i].CredentialIDs {
			if c, ok := byID[id]; ok {
				to[images[i].Name] = append(to[images[i].Name], c)
			}
		}
	}
}

// wanted says whether some image has a credential.
func wanted(images map[string][]sealed, c sealed) bool {
	for _, all := range images {
		if slices.ContainsFunc(all, c.same) {
			return true
		}
	}
	return false
}

// For opens the credentials of an image for a host, in the order to try them. host is the
// registry as images name it, or the host that a request goes to. Any other host is a
// mirror, and gets none.
func (r *Ring) For(name imageref.Reference, host string) []fetch.Login {
	registry := name.Registry()
	if host != registry && (registry != dockerHub || host != dockerHubAPI) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var logins []fetch.Login
	for _, c := range r.images[name.String()] {
		l, err := r.open(c, name)
		if err != nil {
			r.failed[c.ID] = failure{c, err}
			continue
		}
		logins = append(logins, l)
	}
	return logins
}

// open gives a credential if it is for the repository of name.
func (r *Ring) open(c sealed, name imageref.Reference) (fetch.Login, error) {
	p, err := r.key.Open(c.Sealed, c.Match, c.nodeUID)
	if err != nil {
		return fetch.Login{}, err
	}
	if !pullscope.Covers(p.Match, name.Name()) && (!pullscope.IsHub(p.Match) || !pullscope.OnHub(name.Name())) {
		return fetch.Login{}, errors.New("it is not for the repository of an image that names it")
	}
	return login(p.Auth)
}

// login reads a credential as docker does.
func login(a seal.Auth) (fetch.Login, error) {
	switch {
	case a.RegistryToken != "":
		return fetch.Login{Token: a.RegistryToken}, nil
	case a.IdentityToken != "":
		return fetch.Login{Secret: a.IdentityToken}, nil
	case a.Auth == "":
		return fetch.Login{User: a.Username, Secret: a.Password}, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(a.Auth, "="))
	user, password, ok := strings.Cut(string(b), ":")
	if err != nil || !ok {
		return fetch.Login{}, errors.New("its auth is not base64 of user:password")
	}
	return fetch.Login{User: user, Secret: password}, nil
}

// Trouble names the credentials that could not be opened, nil when none was.
func (r *Ring) Trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, id := range slices.Sorted(maps.Keys(r.failed)) {
		all = append(all, fmt.Sprintf("pull credential %q: %v", id, r.failed[id].err))
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}
