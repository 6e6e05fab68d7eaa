package credentials

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/wish"
	"edgecache.dev/registrycheck/keychain"
)

// Credential is one that matches an image.
type Credential struct {
	// ID names it within a NodeImageCache: the same Secret and pattern, the same ID.
	ID string
	// Match is the host[:port][/path] that it is for.
	Match string
	// Version changes with every edit of its Secret.
	Version string
	keychain.Credential
}

// Auth gives the secret itself.
func (c Credential) Auth() authn.AuthConfig {
	auth, _ := c.Authorization() // never fails
	return *auth
}

// Vault holds what was read of the Secrets that ImageCaches name.
type Vault struct {
	mu      sync.RWMutex
	secrets map[cache.ObjectName]*corev1.Secret      // guarded by mu; nil for one that does not exist
	wants   map[wish.Owner][]cache.ObjectName        // guarded by mu
	chains  map[wish.Owner]keychain.Keychain         // guarded by mu; of owners whose Secrets were all read
	owners  map[cache.ObjectName]map[wish.Owner]bool // guarded by mu; wants the other way round
}

// NewVault makes a vault that knows nothing.
func NewVault() *Vault {
	return &Vault{
		secrets: map[cache.ObjectName]*corev1.Secret{}, wants: map[wish.Owner][]cache.ObjectName{},
		chains: map[wish.Owner]keychain.Keychain{}, owners: map[cache.ObjectName]map[wish.Owner]bool{},
	}
}

// Want notes which Secrets an ImageCache names, none to forget it, and gives those that
// nobody named before.
func (v *Vault) Want(owner wish.Owner, names []cache.ObjectName) (unread []cache.ObjectName) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before, known := v.wants[owner]
	if known && slices.Equal(before, names) || !known && len(names) == 0 {
		return nil
	}
	v.release(owner)
	for _, name := range names {
		if v.owners[name] == nil {
			v.owners[name] = map[wish.Owner]bool{}
			unread = append(unread, name)
		}
		v.owners[name][owner] = true
	}
	if len(names) > 0 {
		v.wants[owner] = slices.Clone(names)
		v.chain(owner)
	}
	return unread
}

// release drops an owner, and the Secrets that nobody else names.
func (v *Vault) release(owner wish.Owner) {
	for _, name := range v.wants[owner] {
		delete(v.owners[name], owner)
		if len(v.owners[name]) == 0 {
			delete(v.owners, name)
			delete(v.secrets, name)
		}
	}
	delete(v.wants, owner)
	delete(v.chains, owner)
}

// Names says whether an ImageCache names Secrets.
func (v *Vault) Names(owner wish.Owner) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.wants[owner]) > 0
}

// Wanted says whether anybody names a Secret.
func (v *Vault) Wanted(name cache.ObjectName) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.owners[name]) > 0
}

// Put takes in a Secret as it stands, nil for one that does not exist, and gives the
// ImageCaches concerned if that is news.
func (v *Vault) Put(name cache.ObjectName, s *corev1.Secret) []wish.Owner {
	v.mu.Lock()
	defer v.mu.Unlock()
	before, known := v.secrets[name]
	if len(v.owners[name]) == 0 || known && version(before) == version(s) {
		return nil
	}
	v.secrets[name] = slim(s)
	var owners []wish.Owner
	for owner := range v.owners[name] {
		v.chain(owner)
		owners = append(owners, owner)
	}
	slices.Sort(owners)
	return owners
}

// slim keeps what a keychain is made of.
func slim(s *corev1.Secret) *corev1.Secret {
	if s == nil {
		return nil
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion},
		Type:       s.Type, Data: s.Data,
	}
}

func version(s *corev1.Secret) string {
	if s == nil {
		return ""
	}
	return string(s.UID) + "/" + s.ResourceVersion
}

// chain makes an owner's keychain once all its Secrets were read. As for pods, those that
// do not exist or cannot be used are passed over; look-ups tell users of them.
func (v *Vault) chain(owner wish.Owner) {
	var found []corev1.Secret
	for _, name := range v.wants[owner] {
		s, known := v.secrets[name]
		if !known {
			delete(v.chains, owner)
			return
		}
		if s != nil {
			found = append(found, *s)
		}
	}
	v.chains[owner], _ = keychain.Parse(found...) // holds all that can be used
}

// For gives the credentials of an ImageCache that match an image, the one to try first in
// front. known is false while some Secret was not read yet.
func (v *Vault) For(owner wish.Owner, ref imageref.Reference) (matching []Credential, known bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if len(v.wants[owner]) == 0 {
		return nil, true
	}
	chain, known := v.chains[owner]
	if !known {
		return nil, false
	}
	for _, c := range chain.For(ref) {
		if !c.Anonymous() {
			matching = append(matching, Credential{ID: id(c), Match: c.Pattern(), Version: c.Source().ResourceVersion, Credential: c})
		}
	}
	return matching, true
}

// Versions tells how the Secrets of an owner stand, to notice changes.
func (v *Vault) Versions(owner wish.Owner) string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var b strings.Builder
	for _, name := range v.wants[owner] {
		s, known := v.secrets[name]
		fmt.Fprintf(&b, "%s %v %s,", name, known, version(s))
	}
	return b.String()
}

// id is short, and tells nothing of what is in the Secret.
func id(c keychain.Credential) string {
	s := c.Source()
	sum := sha256.Sum256([]byte(s.Namespace + "\x00" + s.Name + "\x00" + c.Pattern()))
	return hex.EncodeToString(sum[:8])
}
