package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/keyloop"
)

const (
	// DefaultRefresh is the refresh interval where none is given.
	DefaultRefresh = 15 * time.Minute
	// maxToken is the longest refresh token that nodes are sent as it is, in bytes.
	maxToken = 32
)

// Ask is when nodes ask a registry again what a tag stands for.
type Ask struct {
	// Token asks once, "" for nobody did. It changes when a refresh is asked for.
	Token string
	// Every is the time between two questions, 0 for never.
	Every time.Duration
}

// Ask gives when nodes ask for a tag again, by what all ImageCaches say that have nodes
// resolve it: one token of all tokens, and the shortest interval.
func (v *View) Ask(ref imageref.Reference) Ask {
	v.mu.RLock()
	asks := v.asks
	v.mu.RUnlock()
	if asks == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.asks = asksOf(v.caches)
		asks = v.asks
	}
	return asks[ref]
}

// Sharing gives the other ImageCaches that have nodes resolve an image of this one.
func (v *View) Sharing(owner wish.Owner) []wish.Owner {
	v.mu.RLock()
	defer v.mu.RUnlock()
	mine := v.caches[owner]
	if mine == nil || !mine.ByNode() {
		return nil
	}
	var others []wish.Owner
	for o, c := range v.caches {
		if o != owner && c.ByNode() && slices.ContainsFunc(mine.References(), c.Names) {
			others = append(others, o)
		}
	}
	return others
}

func asksOf(caches map[wish.Owner]*Cache) map[imageref.Reference]Ask {
	asks := map[imageref.Reference]Ask{}
	tokens := map[imageref.Reference][]string{}
	for _, owner := range slices.Sorted(maps.Keys(caches)) {
		c := caches[owner]
		if !c.ByNode() || c.State() != v1alpha1.StateCached {
			continue
		}
		for _, ref := range c.References() {
			if ref.Tag() == "" {
				continue
			}
			if c.Token != "" {
				tokens[ref] = append(tokens[ref], c.Token)
			}
			asks[ref] = Ask{Token: combined(tokens[ref]), Every: keyloop.Sooner(asks[ref].Every, c.refreshes(ref))}
		}
	}
	return asks
}

// combined makes one token of several: another one when any of them changes.
func combined(tokens []string) string {
	switch {
	case len(tokens) == 0:
		return ""
	case len(tokens) == 1 && len(tokens[0]) <= maxToken:
		return tokens[0]
	}
	sum := sha256.Sum256([]byte(strings.Join(tokens, "\x00")))
	return hex.EncodeToString(sum[:maxToken/2])
}

// RefreshInterval gives the time between two refreshes of an ImageCache, 0 for none.
func RefreshInterval(spec *v1alpha1.ImageCacheSpec) time.Duration {
	if spec.RefreshInterval == nil {
		return DefaultRefresh
	}
	return spec.RefreshInterval.Duration
}

// AtEveryRefresh says whether a tag is looked up at every refresh.
func AtEveryRefresh(policy v1alpha1.PullPolicy, ref imageref.Reference) bool {
	if policy == "" {
		return ref.Moves()
	}
	return policy == v1alpha1.PullAlways
}

// refreshes gives how often an ImageCache looks a tag up, 0 for once.
func refreshes(spec *v1alpha1.ImageCacheSpec) func(imageref.Reference) time.Duration {
	policy, interval := spec.ImagePullPolicy, RefreshInterval(spec)
	return func(ref imageref.Reference) time.Duration {
		if AtEveryRefresh(policy, ref) {
			return interval
		}
		return 0
	}
}
