package limits

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/wish"
)

// Accounts weigh the images of each namespace whose bytes are limited, and say which
// ImageCaches do not fit. Namespaces without such a limit cost nothing here.
type Accounts struct {
	limits Limits
	size   func(digest.Digest) int64

	mu         sync.RWMutex
	namespaces map[string]*account // guarded by mu
}

// account is one namespace's.
type account struct {
	claims  map[wish.Owner]Claim
	stale   bool                   // claims changed since the last decision
	refused map[wish.Owner]string  // the rule that is broken
	unsized map[digest.Digest]bool // of the last decision
}

// NewAccounts makes empty accounts. size gives the bytes of a digest, 0 while they are not
// known: such a digest weighs nothing yet.
func NewAccounts(limits Limits, size func(digest.Digest) int64) *Accounts {
	return &Accounts{limits: limits, size: size, namespaces: map[string]*account{}}
}

// Weighs says whether the bytes of a namespace are limited.
func (a *Accounts) Weighs(namespace string) bool { return a.limits.Weighs(namespace) }

// Put takes in what an ImageCache claims now; Decide acts on it. Claims of namespaces
// without a limit are not kept.
func (a *Accounts) Put(c Claim) {
	namespace := c.Owner.Namespace()
	if !a.Weighs(namespace) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.namespaces[namespace]
	if at == nil {
		at = &account{claims: map[wish.Owner]Claim{}}
		a.namespaces[namespace] = at
	}
	before, known := at.claims[c.Owner]
	if !known || !before.Created.Equal(c.Created) || !maps.Equal(before.Named, c.Named) ||
		at.refused[c.Owner] != "" && !maps.Equal(before.Held, c.Held) { // else it does not count
		at.stale = true
	}
	at.claims[c.Owner] = c
}

// Drop forgets an ImageCache; Decide acts on it.
func (a *Accounts) Drop(owner wish.Owner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.namespaces[owner.Namespace()]
	if at == nil {
		return
	}
	if _, known := at.claims[owner]; known {
		delete(at.claims, owner)
		at.stale = true
	}
}

// Decide works a namespace out anew if its claims changed. It gives the ImageCaches for
// which the decision, or its wording, changed.
func (a *Accounts) Decide(namespace string) []wish.Owner {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.namespaces[namespace]
	if at == nil || !at.stale {
		return nil
	}
	if len(at.claims) == 0 {
		delete(a.namespaces, namespace)
	}
	return a.decide(namespace, at)
}

// Sized takes note that the bytes of a digest may be known now, and gives the ImageCaches
// for which the decision changed.
func (a *Accounts) Sized(d digest.Digest) []wish.Owner {
	a.mu.Lock()
	defer a.mu.Unlock()
	var changed []wish.Owner
	for namespace, at := range a.namespaces {
		if at.unsized[d] {
			changed = append(changed, a.decide(namespace, at)...)
		}
	}
	return changed
}

// Refusal says why an ImageCache does not fit, "" when it does or claims nothing.
func (a *Accounts) Refusal(owner wish.Owner) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if at := a.namespaces[owner.Namespace()]; at != nil {
		return at.refused[owner]
	}
	return ""
}

// Covers says whether nodes may be told of a digest on behalf of an ImageCache: it was
// weighed and fits, or nothing is weighed.
func (a *Accounts) Covers(owner wish.Owner, d digest.Digest) bool {
	// What no ImageCache asked for is nobody's to be limited.
	if !strings.Contains(string(owner), "/") || !a.Weighs(owner.Namespace()) {
		return true
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	at := a.namespaces[owner.Namespace()]
	return at != nil && at.refused[owner] == "" && at.claims[owner].Named[d]
}

// decide gives the ImageCaches for which it changed something. Callers hold mu.
func (a *Accounts) decide(namespace string, at *account) []wish.Owner {
	i, limit := a.limits.of(namespace)
	most, _ := limit.bytes() // the settings were validated
	at.stale, at.unsized = false, map[digest.Digest]bool{}
	size := func(d digest.Digest) int64 {
		n := a.size(d)
		if n == 0 {
			at.unsized[d] = true
		}
		return n
	}
	before := at.refused
	at.refused = map[wish.Owner]string{}
	for owner, e := range overweight(slices.Collect(maps.Values(at.claims)), most, size) {
		at.refused[owner] = told(e.rule(limit.MaxBytes, most), i, namespace)
	}
	var changed []wish.Owner
	for owner := range at.claims {
		if before[owner] != at.refused[owner] {
			changed = append(changed, owner)
		}
	}
	slices.Sort(changed)
	return changed
}

func (e excess) rule(written string, most int64) string {
	return fmt.Sprintf("maxBytes is %s, %d bytes: older ImageCaches of the namespace have %d bytes, with the images of this one they would have %d. "+
		"Name fewer or smaller images, delete or shrink other ImageCaches of the namespace, or have maxBytes raised", written, most, e.have, e.would)
}
