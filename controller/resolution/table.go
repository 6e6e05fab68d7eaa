package resolution

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

// Key is one image as one namespace reads it.
type Key struct {
	Ref imageref.Reference
	// Namespace is "" for what no ImageCache asks for.
	Namespace string
	// Secrets are the names of the pull secrets, in order, separated by commas.
	Secrets string
}

// Interest is what an ImageCache wants to know, or edgecache itself: then without a
// namespace.
type Interest struct {
	Owner     wish.Owner
	Namespace string
	Secrets   []string
	Images    []imageref.Reference
	// Again says for which images a tag is to be looked up although a digest is known.
	Again func(imageref.Reference) bool
	// Retry asks for a new look-up of all images that were not found.
	Retry bool
	// Known is the status that the cache had when it was first seen.
	Known []v1alpha1.ImageStatus
	// Precheck says what becomes of an image that cannot be pulled; "" is Enforce. Under Off
	// no registry is asked for references by digest.
	Precheck v1alpha1.PrecheckMode
	// Platforms gives those of the nodes that an image is for, in containerd's normal form;
	// nil for none. It is called under the table's lock.
	Platforms func(imageref.Reference) []string
	// Quiet asks for nothing to be looked up: a cache that is suspended or purged only
	// keeps what is known.
	Quiet bool
}

// entry is what is known of a key.
type entry struct {
	owners   map[wish.Owner]digest.Digest // what each was let through to last, "" for nothing
	check    *v1alpha1.ImageCheck         // nil while nothing is known; never changed in place
	admitted bool                         // the registry was found to give the image
	moving   bool                         // the tag itself is to be looked up, not only the digest known for it
	probing  string                       // platforms that a look-up was asked for last because they were new
	asked    int                          // look-ups asked for
	answered int                          // value of asked at the start of the last look-up that ended
	failures int                          // in a row
	// notBefore is until when the registry wants to be left alone.
	notBefore time.Time
}

// Table is what references stand for. It is safe for concurrent use.
type Table struct {
	mu       sync.RWMutex
	targets  map[imageref.Reference]target // guarded by mu
	keys     map[Key]*entry                // guarded by mu
	interest map[wish.Owner]Interest       // guarded by mu; last one of each owner
}

// NewTable makes an empty table.
func NewTable() *Table {
	return &Table{
		targets:  map[imageref.Reference]target{},
		keys:     map[Key]*entry{},
		interest: map[wish.Owner]Interest{},
	}
}

func (i *Interest) key(ref imageref.Reference) Key {
	return Key{Ref: ref, Namespace: i.Namespace, Secrets: strings.Join(i.Secrets, ",")}
}

// Take notes what an ImageCache wants to know and gives the keys to look up.
func (t *Table) Take(in Interest) []Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(in)
	t.interest[in.Owner] = in
	var look []Key
	for _, ref := range in.Images {
		key := in.key(ref)
		e, known := t.keys[key]
		if !known {
			e = &entry{owners: map[wish.Owner]digest.Digest{}}
			t.keys[key] = e
		}
		if _, ours := e.owners[in.Owner]; !ours {
			e.owners[in.Owner] = ""
			t.seed(e, ref, &in)
		}
		again := in.Again(ref)
		if lacks := t.lacks(e, ref, &in); !in.Quiet && (again || lacks) {
			e.asked++
			e.moving = e.moving || again
			look = append(look, key)
		}
		t.let(e, ref, &in)
	}
	return look
}

// lacks says whether something is to be found out about a key for an owner that was not
// asked for yet.
func (t *Table) lacks(e *entry, ref imageref.Reference, in *Interest) bool {
	if in.asksNobody(ref) {
		return false
	}
	if !e.sound() {
		return e.asked == 0 || in.Retry
	}
	worst, unknown := t.targets[ref].worst(in.needs(ref))
	if platforms := strings.Join(unknown, ","); platforms != "" && platforms != e.probing {
		e.probing = platforms
		return true
	}
	return in.Retry && worst != nil
}

// sound says whether the last look-up gave what was asked for.
func (e *entry) sound() bool {
	return e.admitted && e.check != nil && e.check.Verdict == v1alpha1.VerdictPullable
}

// seed takes over what the status says of an image. Two caches whose statuses disagree
// were caught between two writes: the digest counts as unknown until it was looked up,
// unless it is a quiet cache that disagrees, for which nothing is looked up.
func (t *Table) seed(e *entry, ref imageref.Reference, in *Interest) {
	i := slices.IndexFunc(in.Known, func(s v1alpha1.ImageStatus) bool { return s.Name == ref.String() })
	if i < 0 {
		return
	}
	known := &in.Known[i]
	if e.check == nil {
		e.check = known.Check
	}
	if known.Digest == "" || known.Check == nil {
		return // nodes found it out, which gives nobody a right to it elsewhere
	}
	e.admitted = true
	e.owners[in.Owner] = digest.Digest(known.Digest)
	// A look-up of the tag that was asked for found nothing that could be had.
	e.moving = e.moving || in.enforces() && known.Check.Verdict == v1alpha1.VerdictNotPullable
	switch before, ok := t.targets[ref]; {
	case !ok:
		t.targets[ref] = seeded(known, in.needs(ref))
	case before.digest == digest.Digest(known.Digest):
		t.targets[ref] = before.with(seeded(known, in.needs(ref)).found)
	case !in.Quiet:
		t.targets[ref] = target{}
		e.admitted = false
	}
}

// release drops an owner's keys that the new interest does not name.
func (t *Table) release(in Interest) {
	old, ok := t.interest[in.Owner]
	if !ok {
		return
	}
	now := map[Key]bool{}
	for _, ref := range in.Images {
		now[in.key(ref)] = true
	}
	for _, ref := range old.Images {
		if key := old.key(ref); !now[key] {
			t.drop(key, in.Owner)
		}
	}
}

// Drop forgets an ImageCache.
func (t *Table) Drop(owner wish.Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(Interest{Owner: owner})
	delete(t.interest, owner)
}

func (t *Table) drop(key Key, owner wish.Owner) {
	e, ok := t.keys[key]
	if !ok {
		return
	}
	delete(e.owners, owner)
	if len(e.owners) > 0 {
		return
	}
	delete(t.keys, key)
	for other := range t.keys {
		if other.Ref == key.Ref {
			return
		}
	}
	delete(t.targets, key.Ref)
}

// Target gives the digest frozen for the fleet, "" while there is none.
func (t *Table) Target(ref imageref.Reference) digest.Digest {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.targets[ref].digest
}

// Admits says whether an owner was let through to what an image stands for: it was found
// to have the right to it, and the image to be what the owner's nodes can pull, as far as
// its precheck asks for that.
func (t *Table) Admits(ref imageref.Reference, owner wish.Owner) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.entry(ref, owner)
	return e != nil && t.through(e, ref, owner) != ""
}

// Refuses says whether a registry said that an owner cannot have an image.
func (t *Table) Refuses(ref imageref.Reference, owner wish.Owner) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.entry(ref, owner)
	return e != nil && !e.admitted && t.through(e, ref, owner) == "" && e.check != nil && e.check.Verdict == v1alpha1.VerdictNotPullable
}

// Known gives what an owner's status says of an image: its digest, "" while the owner is
// not let through, and the outcome of the last look-up, nil while there is none.
func (t *Table) Known(ref imageref.Reference, owner wish.Owner) (digest.Digest, *v1alpha1.ImageCheck) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.entry(ref, owner)
	if e == nil {
		return "", nil
	}
	in := t.interest[owner]
	d := t.through(e, ref, owner)
	return d, t.checkOf(e, ref, &in, d)
}

// Pending says whether a look-up for an owner is under way or waiting.
func (t *Table) Pending(owner wish.Owner) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	in, ok := t.interest[owner]
	return ok && slices.ContainsFunc(in.Images, func(ref imageref.Reference) bool {
		e := t.keys[in.key(ref)]
		return e != nil && e.answered < e.asked
	})
}

// Targets gives every digest that a reference stands for.
func (t *Table) Targets() []digest.Digest {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]digest.Digest, 0, len(t.targets))
	for _, at := range t.targets {
		all = append(all, at.digest)
	}
	return all
}

// entry finds what is known of an image for an owner. Callers hold mu.
func (t *Table) entry(ref imageref.Reference, owner wish.Owner) *entry {
	in, ok := t.interest[owner]
	if !ok {
		return nil
	}
	return t.keys[in.key(ref)]
}
