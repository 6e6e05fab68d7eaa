package nodes

import (
	"cmp"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/credentials"
)

const (
	// maxCredentials and maxImageCredentials are what the CRD allows.
	maxCredentials      = 64
	maxImageCredentials = 16
)

// Credentials knows the pull credentials of ImageCaches.
type Credentials interface {
	// Names says whether an owner names pull secrets.
	Names(owner wish.Owner) bool
	// For gives those of an owner that match an image; known is false while that is not
	// known yet.
	For(owner wish.Owner, ref imageref.Reference) (matching []credentials.Credential, known bool)
}

// Seal seals a credential to a recipient, for a node's UID.
type Seal func(recipient, match, nodeUID string, auth authn.AuthConfig) ([]byte, error)

// sealer gives the images of one node their credentials.
type sealer struct {
	key     *v1alpha1.NodeKey // nil while the node published none
	allowed bool              // to seal anew
	nodeUID string
	find    Credentials
	seal    Seal
}

// fill sets which credentials each image is pulled with, and gives them sealed. What was
// sealed before stays as it is while the node's key and the Secret do.
func (s *sealer) fill(current *v1alpha1.NodeImageCacheSpec, images []v1alpha1.NodeImage) []v1alpha1.SealedCredential {
	before := byName(current.Images)
	have := map[string]v1alpha1.SealedCredential{}
	for _, c := range current.Credentials {
		have[c.ID] = c
	}
	need := map[string]v1alpha1.SealedCredential{}
	for i := range images {
		img := &images[i]
		var ids []string
		found, known := s.matching(img)
		if was := before[img.Name]; !known && was != nil {
			ids = keep(was.CredentialIDs, have, need)
		}
		for _, c := range found {
			if s.take(c, have, need) && !slices.Contains(ids, c.ID) {
				ids = append(ids, c.ID)
			}
		}
		img.CredentialIDs = ids[:min(len(ids), maxImageCredentials)]
	}
	return sorted(need)
}

// matching gives the credentials of all owners of an image.
func (s *sealer) matching(img *v1alpha1.NodeImage) (all []credentials.Credential, known bool) {
	if !slices.ContainsFunc(img.Owners, func(o string) bool { return s.find.Names(wish.Owner(o)) }) {
		return nil, true // most images: not worth reading their names
	}
	ref, err := imageref.Parse(img.Name)
	if err != nil {
		return nil, true // not written by this version
	}
	known = true
	for _, o := range img.Owners {
		found, read := s.find.For(wish.Owner(o), ref)
		known = known && read
		all = append(all, found...)
	}
	return all, known
}

// keep carries over what was sealed for an image whose Secrets were not read yet.
func keep(ids []string, have, need map[string]v1alpha1.SealedCredential) []string {
	var kept []string
	for _, id := range ids {
		if c, ok := have[id]; ok {
			need[id] = c
			kept = append(kept, id)
		}
	}
	return kept
}

// take sees to it that a credential is among those needed, sealed to the node's key if that
// can be. It says whether it is.
func (s *sealer) take(c credentials.Credential, have, need map[string]v1alpha1.SealedCredential) bool {
	if _, ok := need[c.ID]; ok {
		return true
	}
	old, ok := have[c.ID]
	if len(need) >= maxCredentials {
		return false
	}
	stays := s.key == nil || !s.allowed || old.KeyID == s.key.ID && old.SourceVersion == c.Version && old.Match == c.Match
	if stays {
		if ok {
			need[c.ID] = old
		}
		return ok
	}
	sealed, err := s.seal(s.key.Recipient, c.Match, s.nodeUID, c.Auth())
	if err != nil {
		klog.ErrorS(err, "Sealing pull credential", "credential", c, "key", s.key.ID)
		return false
	}
	need[c.ID] = v1alpha1.SealedCredential{ID: c.ID, Match: c.Match, KeyID: s.key.ID, SourceVersion: c.Version, Sealed: sealed}
	return true
}

func sorted(need map[string]v1alpha1.SealedCredential) []v1alpha1.SealedCredential {
	var all []v1alpha1.SealedCredential
	for _, c := range need {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b v1alpha1.SealedCredential) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
