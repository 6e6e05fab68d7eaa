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

// maxToken is the longest refresh token that nodes are sent as it is, in bytes.
const maxToken = 32

// Ask is when nodes ask a registry again what a tag stands for.
type Ask struct {
	// Token asks once, "" for nobody did. It changes when a refresh is asked for.
	Token string
	// Every is the time between two questions, 0 for never.
	Every time.Duration
}

// Ask gives when nodes ask for a tag again, by what all ImageCaches say that have nodes
// resolve it: one token of all tokens, which is another one only when a refresh was asked
// for, and the shortest interval.
func (v *View) Ask(ref imageref.Reference) Ask {
	v.mu.RLock()
	asks := v.asks
	v.mu.RUnlock()
	if asks == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.ask()
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

// Recall takes in the refresh tokens that the specs of nodes have, by canonical reference
// and token the number of nodes. It is called once, at the start: a tag whose refreshes are
// done keeps the token that nodes have, of whatever caches that was made.
func (v *View) Recall(tokens map[string]map[string]int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.recalled, v.asks = tokens, nil
}

// made is the refresh token of a tag, and the tokens of the caches that it was made of. It
// is made anew when one of them is added or changed. One that goes away, because its cache
// is suspended, refused, edited or deleted, leaves it as it is: it asks for nothing.
type made struct {
	token string
	of    map[wish.Owner]string
	news  bool
	every time.Duration
}

// ask works out when nodes ask for each tag. Callers hold mu.
func (v *View) ask() {
	now := map[imageref.Reference]*made{}
	for owner, c := range v.caches {
		if !c.ByNode() {
			continue
		}
		for _, ref := range c.References() {
			if ref.Tag() == "" {
				continue
			}
			if now[ref] == nil {
				now[ref] = &made{of: map[wish.Owner]string{}}
			}
			now[ref].add(owner, c, v.made[ref], ref)
		}
	}
	asks := make(map[imageref.Reference]Ask, len(now))
	for ref, m := range now {
		last := v.made[ref]
		switch {
		case m.news:
			m.token = combined(m.of)
		case last != nil:
			m.token = last.token
		default:
			m.token = commonest(v.recalled[ref.String()], combined(m.of))
		}
		asks[ref] = Ask{Token: m.token, Every: m.every}
	}
	v.made, v.asks = now, asks
}

// add adds what a cache asks for. What counts of a cache that is not served is what it asked
// for before; the refresh that its status calls done, of one that is new to the tag.
func (m *made) add(owner wish.Owner, c *Cache, last *made, ref imageref.Reference) {
	before := c.handled
	if last != nil {
		if token, ok := last.of[owner]; ok {
			before = token
		}
	}
	token := before
	if c.State() == v1alpha1.StateCached {
		token, m.every = c.Token, keyloop.Sooner(m.every, c.refreshes(ref))
	}
	m.of[owner] = token
	m.news = m.news || token != "" && token != before
}

// commonest gives the token that most nodes have; of as many the one that would be made,
// else the smallest.
func commonest(nodes map[string]int, would string) string {
	best := would
	for _, token := range slices.Sorted(maps.Keys(nodes)) {
		if nodes[token] > nodes[best] {
			best = token
		}
	}
	return best
}

// combined makes one token of those of several caches: another one when any of them changes.
func combined(of map[wish.Owner]string) string {
	var tokens []string
	for _, owner := range slices.Sorted(maps.Keys(of)) {
		if of[owner] != "" {
			tokens = append(tokens, of[owner])
		}
	}
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
		return v1alpha1.DefaultRefresh
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
	s := v1alpha1.ImageCacheSpec{ImagePullPolicy: spec.ImagePullPolicy, RefreshInterval: spec.RefreshInterval}
	return func(ref imageref.Reference) time.Duration { return s.RefreshEvery(ref.Moves()) }
}
